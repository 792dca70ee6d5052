"""Blocks that are sent one by one: the thesis's adaptive grouping (algorithm 3).

Latents with a KL above the limit are outliers: a sample of the target is sent, quantised to 16
bits. The others, in raster order, are grouped: a block ends where the next latent would bring
its KL over the budget or its length over the limit. Lengths and bits of the blocks are entropy
coded.

Corrected against the text: the KLs of the groups leave the outliers out; the last group is used;
everything is in bits; K = 2^bits is sent with the group (the text's K = exp(KL) isn't known to a
decoder).
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from toolkit.format.errors import BadStream
from toolkit.sampling.blocks.layout import Budget, Layout
from toolkit.sampling.coding.bits import BitReader, BitWriter, Ints
from toolkit.sampling.coding.integers import read_integers, write_integers
from toolkit.sampling.contract import Array, kl_bits
from toolkit.sampling.randomness import SharedRandom

_VALUE_BITS = 16
_HALF = 2 ** (_VALUE_BITS - 1)
_PRIVATE = 2**31


def write_blocks(
    writer: BitWriter, d: Array, r: Array, budget: Budget, multiple: float, random: SharedRandom
) -> Layout:
    """Send outliers and blocks of targets (C, H, W); ``multiple`` scales the KLs."""
    kl = kl_bits(d, r).reshape(-1)
    outliers = np.flatnonzero(kl > budget.outlier)
    rest = np.flatnonzero(kl <= budget.outlier)
    base = np.zeros(kl.shape, np.float32)
    noise = random.private(_PRIVATE).standard_normal(len(outliers), np.float32)
    samples = d.reshape(-1)[outliers] + r.reshape(-1)[outliers] * noise
    base[outliers] = _write_values(writer, outliers, samples, kl.size)
    kl = np.maximum(kl[rest] * multiple, 0)
    lengths, sums = _cut(kl, float(max(1, budget.bits - budget.slack)), budget.width)
    steps = np.ceil((sums + budget.slack) / budget.step - 1e-9).astype(np.int64)
    steps = np.clip(steps, 0, budget.bits // budget.step)
    writer.gamma(len(lengths))
    write_integers(writer, budget.width - lengths)
    write_integers(writer, steps)
    return _layout(base, rest, lengths, steps, budget)


def read_blocks(
    reader: BitReader, shape: tuple[int, int, int], budget: Budget, random: SharedRandom
) -> Layout:
    """The layout that ``write_blocks`` made. Raises BadStream."""
    base = np.zeros(int(np.prod(shape)), np.float32)
    outliers, values = _read_values(reader, len(base))
    base[outliers] = values
    known = np.zeros(len(base), bool)
    known[outliers] = True
    rest = np.flatnonzero(~known)
    count = int(reader.gamma(1)[0])
    if count > len(rest):
        raise BadStream(f"{count} blocks of {len(rest)} latents")
    lengths = budget.width - read_integers(reader, count)
    steps = read_integers(reader, count)
    if np.any(lengths < 1) or int(lengths.sum()) != len(rest):
        raise BadStream("the lengths of the blocks don't add up")
    if np.any(steps > budget.bits // budget.step):
        raise BadStream("a block of more bits than the budget")
    return _layout(base, rest, lengths, steps, budget)


def _layout(
    base: NDArray[np.float32], order: Ints, lengths: Ints, steps: Ints, budget: Budget
) -> Layout:
    # long blocks come in all lengths: filled up more, they make fewer and faster products
    digits = 4 if budget.width <= 64 else 2
    return Layout(base, order, lengths, steps * budget.step, digits)


@numba.njit(cache=True)
def _cut(kl, budget, width):  # type: ignore[no-untyped-def]
    """Lengths of the groups and their sums of KL."""
    lengths = np.zeros(len(kl), np.int64)
    sums = np.zeros(len(kl), np.float64)
    group = -1
    for value in kl:
        if group < 0 or sums[group] + value > budget or lengths[group] == width:
            group += 1
        lengths[group] += 1
        sums[group] += value
    return lengths[: group + 1], sums[: group + 1]


def _write_values(writer: BitWriter, places: Ints, values: Array, latents: int) -> Array:
    """Places and values in 16-bit fixed point, the exponent sent once; as they will be read."""
    writer.gamma(len(places))
    writer.increasing(places, latents)
    if not len(places):
        return values
    largest = float(np.abs(values).max())
    exponent = int(np.clip(np.floor(np.log2((_HALF - 1) / max(largest, 2.0**-16))), 0, 15))
    fixed = np.clip(np.rint(values * 2.0**exponent), -_HALF, _HALF - 1).astype(np.int64)
    writer.write(exponent, 4)
    writer.write(fixed + _HALF, _VALUE_BITS)
    return (fixed * 2.0**-exponent).astype(np.float32)


def _read_values(reader: BitReader, latents: int) -> tuple[Ints, Array]:
    count = int(reader.gamma(1)[0])
    places = reader.increasing(count, latents)
    if not count:
        return places, np.zeros(0, np.float32)
    exponent = reader.number(4)
    fixed = reader.read(_VALUE_BITS, count) - _HALF
    return places, (fixed * 2.0**-exponent).astype(np.float32)
