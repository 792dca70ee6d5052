"""Blocks that follow from the rates of channels.

Latent elements are taken in a seeded permutation, sorted by the rate that was sent for their
channel, so that those of one block need about equally many bits. Where a block ends follows from
the rates in integers, at no cost; block sizes sent one by one would take a third of the rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolkit.sampling.blocks.layout import Budget, Layout, LayoutCoder, round_down
from toolkit.sampling.coding.bits import BitReader, BitWriter, Ints
from toolkit.sampling.coding.outliers import read_shifts, shift_outliers, write_shifts
from toolkit.sampling.coding.rates import (
    SCALE,
    UNIT_BITS,
    choose_codes,
    read_codes,
    wanted_rates,
    write_codes,
)
from toolkit.sampling.contract import Array
from toolkit.sampling.randomness import SharedRandom

PERMUTATION = SharedRandom.RESERVED
PRIOR = SharedRandom.RESERVED + 1


@dataclass(frozen=True)
class RateLayouts(LayoutCoder):
    """Sends outliers, and rates of channels at some multiple of their KL divergence."""

    budget: Budget
    mean: bool = True
    """Whether elements of channels without a rate are 0, the prior's mean, not draws of it."""

    def write(
        self, writer: BitWriter, d: Array, r: Array, multiple: float, random: SharedRandom
    ) -> Layout:
        """See ``LayoutCoder.write``."""
        shifts, rest = shift_outliers(d)
        write_shifts(writer, shifts)
        codes = choose_codes(wanted_rates(rest, r, multiple, self.mean))
        write_codes(writer, codes)
        channels, height, width = d.shape
        layout = self._layout((channels, height, width), codes, random)
        np.add(layout.base, shifts.reshape(-1), out=layout.base)
        return layout

    def read(self, reader: BitReader, shape: tuple[int, int, int], random: SharedRandom) -> Layout:
        """See ``LayoutCoder.read``."""
        shifts = read_shifts(reader, int(np.prod(shape)))
        layout = self._layout(shape, read_codes(reader, shape[0]), random)
        np.add(layout.base, shifts, out=layout.base)
        return layout

    def _layout(self, shape: tuple[int, int, int], codes: Ints, random: SharedRandom) -> Layout:
        """The layout that the channels' rate codes (C,) imply."""
        budget = self.budget
        channels, height, width = shape
        plane = height * width
        total = channels * plane
        base = np.zeros((channels, plane), np.float32)
        unused = np.flatnonzero(codes == 0)
        if not self.mean:
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
    """Lengths of blocks over falling ``rates``: as many elements as the budget holds.

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
        width = round_down(width, 4)
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
