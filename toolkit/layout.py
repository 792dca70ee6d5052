"""How a level is cut into blocks: the order of its latents, block lengths, bits of each block.

A layout is known to encoder and decoder alike. Two kinds:

- from rates: latents in a seeded permutation, sorted by the rate that was sent for their
  channel, so that those of one block need about equally many bits. Blocks follow from the rates
  in integers, at no cost.
- sent: latents in raster order, block lengths sent one by one (thesis, algorithm 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.bits import Ints, bit_length
from toolkit.randomness import SharedRandom
from toolkit.rates import SCALE, UNIT_BITS

PERMUTATION = SharedRandom.RESERVED
PRIOR = SharedRandom.RESERVED + 1


@dataclass(frozen=True)
class Budget:
    """How much a block may hold."""

    bits: int
    """At most so many bits of indices."""
    width: int = 1024
    """At most so many latents."""
    slack: int = 0
    """Bits that a block gets beyond its rate (t of K = 2^(KL + t))."""
    mean: bool = True
    """Whether latents of channels without a rate are 0, the prior's mean, not draws of it."""


@dataclass(frozen=True)
class Layout:
    """Blocks over a level of ``len(base)`` latents."""

    base: NDArray[np.float32]
    """What is known without any block: shifts of escapes, values of channels without a rate."""
    order: Ints
    """The latents that are in blocks, block after block."""
    lengths: Ints
    """Of each block, in latents."""
    bits: Ints
    """Of each block, for all its indices."""

    def batches(self) -> list[tuple[Ints, Ints, int]]:
        """Blocks of equal bits and (rounded-up) width: their numbers (n,), the latents in
        them (n, width), ``len(base)`` standing for none, and their bits. Widest first."""
        widths = round_up(self.lengths)
        starts = np.cumsum(self.lengths) - self.lengths
        padded = np.append(self.order, np.full(int(widths.max(initial=0)), len(self.base)))
        keys = widths * (1 << 20) + self.bits
        result = []
        for key in np.unique(keys)[::-1]:
            numbers = np.flatnonzero(keys == key)
            columns = np.arange(int(key) >> 20)
            latents = padded[starts[numbers, None] + columns]
            latents[columns >= self.lengths[numbers, None]] = len(self.base)
            result.append((numbers, latents, int(key) & ((1 << 20) - 1)))
        return result


def round_up(widths: Ints) -> Ints:
    """The next width with at most four significant bits: batches for all, little filling."""
    step = np.int64(1) << np.maximum(bit_length(widths) - 4, 0)
    return -(-widths // step) * step


def round_down(widths: Ints) -> Ints:
    """The previous width with at most four significant bits."""
    step = np.int64(1) << np.maximum(bit_length(widths) - 4, 0)
    return widths // step * step


def layout_from_rates(
    shape: tuple[int, int, int], codes: Ints, budget: Budget, random: SharedRandom
) -> Layout:
    """The layout that the channels' rate codes (C,) imply."""
    channels, height, width = shape
    plane = height * width
    total = channels * plane
    base = np.zeros((channels, plane), np.float32)
    unused = np.flatnonzero(codes == 0)
    if not budget.mean:
        base[unused] = random.normals(PRIOR, unused, plane)
    order = random.permutation(PERMUTATION, total)
    order = order[np.argsort(-codes[order // plane], kind="stable")]
    order = order[: total - len(unused) * plane]
    rates = SCALE[codes[order // plane]]
    lengths = _cut(rates, budget)
    ends = np.cumsum(lengths)
    sums = np.concatenate([[0], np.cumsum(rates)[ends - 1]])
    sums += np.arange(len(ends) + 1) * (budget.slack << UNIT_BITS)
    bits = np.minimum(np.diff(sums >> UNIT_BITS), budget.bits)
    return Layout(base.reshape(-1), order, lengths, bits)


def _cut(rates: Ints, budget: Budget) -> Ints:
    """Lengths of blocks over falling ``rates``: as many latents as the budget holds.

    Runs of equal rates are cut at once; a block that starts near the end of a run goes on into
    the next ones.
    """
    room = max(1, budget.bits - budget.slack) << UNIT_BITS
    sums = np.cumsum(rates)
    run_ends = np.append(np.flatnonzero(np.diff(rates)) + 1, len(rates))
    lengths: list[Ints] = []
    at = 0
    for end in run_ends:
        end = int(end)
        if at >= end:
            continue
        width = min(max(room // int(rates[at]), 1), budget.width)
        width = int(round_down(np.array([width]))[0])
        whole = (end - at) // width
        lengths.append(np.full(whole, width))
        at += whole * width
        if at < end:
            before = int(sums[at - 1]) if at else 0
            stop = int(np.searchsorted(sums, before + room, side="right"))
            stop = max(at + 1, min(stop, at + budget.width))
            lengths.append(np.array([stop - at]))
            at = stop
    return np.concatenate(lengths) if lengths else np.zeros(0, np.int64)
