"""The table of values that the trellis looks up.

Every entry is N(0, 1) over random offsets, but entries are not independent of their neighbours:
of 2^b entries that differ in the lowest b bits, b up to 8, there is one in each of the 2^b equal
parts of the distribution. So the 2^b ways on from a state always include one near any target, as
in set partitioning (Ungerboeck 1982, "Channel coding with multilevel/phase signals"). Against
independent entries it cuts the excess distortion to 0.5-0.9, most with few states.

Digit k (the k-th most significant) of the entry's quantile is bit k of its index, flipped by a
random function of the higher bits; digits from the ninth on are random.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from toolkit.sampling.contract import Array
from toolkit.sampling.randomness import TABLE_BITS, SharedRandom, normal_table

OFFSET_BITS = 18
"""Offsets x_i are below 2^18,"""
OFFSET_STEP_BITS = 4
"""and multiples of 2^4: up to 4 bits an element the parts stay whole, and there are 2^14 values for
the elements of one state."""
DIGITS = 8


@cache
def value_table(nu: int) -> Array:
    """Z, float32, (2^18 + 2^nu): the same for all levels and files."""
    size = 2**OFFSET_BITS + 2**nu
    random = SharedRandom(0, 0)
    index = np.arange(size, dtype=np.uint32)
    words = random.words(SharedRandom.RESERVED, [0], size)[0]
    quantile = np.zeros(size, np.uint32)
    for k in range(DIGITS):
        flips = words[index >> np.uint32(k + 1)] >> np.uint32(31 - k)
        digit = (index >> np.uint32(k) ^ flips) & np.uint32(1)
        quantile = quantile << np.uint32(1) | digit
    rest = TABLE_BITS - DIGITS
    quantile = quantile << np.uint32(rest) | (words & np.uint32((1 << rest) - 1))
    table = normal_table()[quantile]
    table.flags.writeable = False
    return table
