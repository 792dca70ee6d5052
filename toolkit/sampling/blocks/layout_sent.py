"""Blocks that are sent one by one: the thesis's adaptive grouping (algorithm 3).

Latent elements with a KL above the limit are outliers: a sample of the target is sent, quantised
to 16 bits. The others, in raster order, are grouped: a block ends where the next would bring
its KL over the budget or its length over the limit. Lengths and bits of the blocks are entropy
coded.

Corrected against the text: the KLs of the groups leave the outliers out; the last group is used;
everything is in bits; K = 2^bits is sent with the group (the text's K = exp(KL) isn't known to a
decoder).
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from toolkit.format.errors import BadStream
from toolkit.sampling.blocks.layout import Budget, Layout, LayoutCoder
from toolkit.sampling.coding.bits import BitReader, BitWriter, Ints
from toolkit.sampling.coding.integers import read_integers, write_integers
from toolkit.sampling.coding.values import read_values, write_values
from toolkit.sampling.contract import Array, kl_bits
from toolkit.sampling.randomness import SharedRandom

_PRIVATE = 2**31


@dataclass(frozen=True)
class SentLayouts(LayoutCoder):
    """Sends outliers, and length and bits of every block."""

    budget: Budget
    step: int = 1
    """The bits of a block are a multiple of this."""
    outlier: float = 12.0
    """Elements with a KL above this, in bits, are sent by value."""

    def write(
        self, writer: BitWriter, d: Array, r: Array, multiple: float, random: SharedRandom
    ) -> Layout:
        """See ``LayoutCoder.write``."""
        budget = self.budget
        kl = kl_bits(d, r).reshape(-1)
        outliers = np.flatnonzero(kl > self.outlier)
        rest = np.flatnonzero(kl <= self.outlier)
        base = np.zeros(kl.shape, np.float32)
        noise = random.private(_PRIVATE).standard_normal(len(outliers), np.float32)
        writer.gamma(len(outliers))
        writer.increasing(outliers, kl.size)
        samples = d.reshape(-1)[outliers] + r.reshape(-1)[outliers] * noise
        base[outliers] = write_values(writer, samples)
        kl = np.maximum(kl[rest] * multiple, 0)
        lengths, sums = _cut(kl, float(max(1, budget.bits - budget.slack)), budget.width)
        steps = np.ceil((sums + budget.slack) / self.step - 1e-9).astype(np.int64)
        steps = np.clip(steps, 0, budget.bits // self.step)
        writer.gamma(len(lengths))
        write_integers(writer, budget.width - lengths)
        write_integers(writer, steps)
        return self._layout(base, rest, lengths, steps)

    def read(self, reader: BitReader, shape: tuple[int, int, int], random: SharedRandom) -> Layout:
        """See ``LayoutCoder.read``."""
        base = np.zeros(int(np.prod(shape)), np.float32)
        outliers = reader.increasing(int(reader.gamma(1)[0]), len(base))
        base[outliers] = read_values(reader, len(outliers))
        known = np.zeros(len(base), bool)
        known[outliers] = True
        rest = np.flatnonzero(~known)
        count = int(reader.gamma(1)[0])
        if count > len(rest):
            raise BadStream(f"{count} blocks of {len(rest)} latent elements")
        lengths = self.budget.width - read_integers(reader, count)
        steps = read_integers(reader, count)
        if np.any(lengths < 1) or int(lengths.sum()) != len(rest):
            raise BadStream("the lengths of the blocks don't add up")
        if np.any(steps > self.budget.bits // self.step):
            raise BadStream("a block of more bits than the budget")
        return self._layout(base, rest, lengths, steps)

    def _layout(self, base: Array, order: Ints, lengths: Ints, steps: Ints) -> Layout:
        # long blocks come in all lengths: filled up more, they make fewer and faster products
        digits = 4 if self.budget.width <= 64 else 2
        return Layout(base, order, lengths, steps * self.step, digits)


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
