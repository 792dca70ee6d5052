"""Segments of a level: order of coding, offsets into the table, emissions of the trellis.

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
from toolkit_plugins.samplers.trellis.rates import ElementRates
from toolkit_plugins.samplers.trellis.table import OFFSET_BITS, OFFSET_STEP_BITS

_ORDER, _OFFSETS, _ROTATION = 0, 1, 2


@dataclass(frozen=True)
class Segment:
    """Elements that are coded together, in coding order."""

    elements: NDArray[np.int64]
    """Flat indices, (n)."""
    offsets: NDArray[np.int64]
    """x_i, (n)."""
    sends: NDArray[np.uint8]
    """Bits that each one sends, (n)."""
    free: int
    """Bits of the first state."""
    bits: int
    """All bits: those of the first state and those sent."""


class Segments:
    """Of a level of shape (C, H, W), in segments of ``longest`` elements, the last ones shorter.

    Arguments:
        members: Elements that are coded, flat indices; None: all.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        longest: int,
        random: SharedRandom,
        members: NDArray[np.int64] | None = None,
    ) -> None:
        self.shape, self.members = shape, members
        self.elements = int(np.prod(shape)) if members is None else len(members)
        self.count = -(-self.elements // longest)
        self.random = random
        self.longest = -(-self.elements // max(1, self.count))

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return self.random.permutation(_ORDER, self.longest)

    @cached_property
    def _rotation(self) -> NDArray[np.int64]:
        words = self.random.words(_ROTATION, [0], self.longest)[0]
        return (words % np.uint32(self.count)).astype(np.int64)[self._order]

    def indices(self, number: int) -> NDArray[np.int64]:
        """Flat indices of a segment's elements in coding order.

        Of every ``segments`` neighbours each segment has one, by a random rotation, so that
        every segment is like the whole: whole columns or channels in one segment would want
        more bits than the channels' rates give it.
        """
        elements = self._order * self.count + (number + self._rotation) % self.count
        elements = elements[elements < self.elements]
        return elements if self.members is None else self.members[elements]

    def segment(self, number: int, rates: ElementRates, nu: int) -> Segment:
        """Segment ``number`` by its elements' rates.

        The first state is made of the bits that the first elements would send, up to nu of them: so
        that these, too, have all states to choose from.
        """
        elements = self.indices(number)
        words = self.random.words(_OFFSETS, [number], len(elements))[0]
        steps = words >> np.uint32(32 - OFFSET_BITS + OFFSET_STEP_BITS)
        sends, free, bits = _emissions(rates.of(elements), nu)
        return Segment(elements, steps.astype(np.int64) << OFFSET_STEP_BITS, sends, free, bits)

    def total(self, rates: ElementRates, nu: int) -> int:
        """Bits of all segments."""
        numbers = range(self.count)
        return sum(_emissions(rates.of(self.indices(number)), nu)[2] for number in numbers)


def _emissions(rates: NDArray[np.int64], nu: int) -> tuple[NDArray[np.uint8], int, int]:
    """Bits that the elements send, bits of the first state, and the sum of all."""
    sends = np.empty(len(rates), np.uint8)
    free = min(nu, int(viterbi.emissions(rates, 0, sends)))
    return sends, free, free + int(viterbi.emissions(rates, free, sends))
