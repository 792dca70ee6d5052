"""Order of coding, offsets into the table and emissions of a level of the trellis.

All of it whole numbers that follow from the shape, the shared random numbers and the rates that
were sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from toolkit.sampling.randomness import SharedRandom
from toolkit_plugins.samplers.trellis import viterbi
from toolkit_plugins.samplers.trellis.rates import Rates
from toolkit_plugins.samplers.trellis.table import OFFSET_BITS, OFFSET_STEP_BITS

_ORDER, _OFFSETS, _ROTATION = 0, 1, 2


@dataclass(frozen=True)
class Segment:
    """Dims that are coded together, in coding order."""

    dims: NDArray[np.int64]
    """Flat indices, (n)."""
    offsets: NDArray[np.int64]
    """x_i, (n)."""
    sends: NDArray[np.uint8]
    """Bits that each one sends, (n)."""
    free: int
    """Bits of the first state."""
    bits: int
    """All bits: those of the first state and those sent."""


class Layout:
    """Of a level of shape (C, H, W), in segments of ``longest`` dims, the last ones shorter."""

    def __init__(self, shape: tuple[int, int, int], longest: int, random: SharedRandom) -> None:
        self.shape = shape
        self.dims = int(np.prod(shape))
        self.segments = max(1, -(-self.dims // longest))
        self.random = random
        self._rows = -(-self.dims // self.segments)

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return self.random.permutation(_ORDER, self._rows)

    @cached_property
    def _rotation(self) -> NDArray[np.int64]:
        words = self.random.words(_ROTATION, [0], self._rows)[0]
        return (words % np.uint32(self.segments)).astype(np.int64)[self._order]

    def indices(self, number: int) -> NDArray[np.int64]:
        """Flat indices of a segment's dims in coding order.

        Of every ``segments`` neighbours each segment has one, by a random rotation, so that
        every segment is like the whole: whole columns or channels in one segment would want
        more bits than the channels' rates give it.
        """
        dims = self._order * self.segments + (number + self._rotation) % self.segments
        return dims[dims < self.dims]

    def segment(self, number: int, rates: Rates, nu: int) -> Segment:
        """Segment ``number`` by its dims' rates.

        The first state is made of the bits that the first dims would send, up to nu of them: so
        that these, too, have all states to choose from.
        """
        dims = self.indices(number)
        words = self.random.words(_OFFSETS, [number], len(dims))[0]
        steps = words >> np.uint32(32 - OFFSET_BITS + OFFSET_STEP_BITS)
        sends, free, bits = _emissions(rates.of(dims), nu)
        return Segment(dims, steps.astype(np.int64) << OFFSET_STEP_BITS, sends, free, bits)

    def total(self, rates: Rates, nu: int) -> int:
        """Bits of all segments."""
        numbers = range(self.segments)
        return sum(_emissions(rates.of(self.indices(number)), nu)[2] for number in numbers)


def _emissions(rates: NDArray[np.int64], nu: int) -> tuple[NDArray[np.uint8], int, int]:
    """Bits that the dims send, bits of the first state, and the sum of all."""
    sends = np.empty(len(rates), np.uint8)
    free = min(nu, int(viterbi.emissions(rates, 0, sends)))
    return sends, free, free + int(viterbi.emissions(rates, free, sends))
