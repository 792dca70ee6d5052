"""Values sent as such: 16 bits each, in fixed point with one exponent for all."""

from __future__ import annotations

import numpy as np

from toolkit.sampling.coding.bits import BitReader, BitWriter
from toolkit.sampling.contract import Array

_VALUE_BITS = 16
_HALF = 2 ** (_VALUE_BITS - 1)
_EXPONENT_FIELD = 4
_FINEST = 15


def write_values(writer: BitWriter, values: Array) -> Array:
    """Send values (n,); returns them as they will be read."""
    if not len(values):
        return values
    largest = max(float(np.abs(values).max()), 2.0**-_VALUE_BITS)
    exponent = int(np.clip(np.floor(np.log2((_HALF - 1) / largest)), 0, _FINEST))
    fixed = np.clip(np.rint(values * 2.0**exponent), -_HALF, _HALF - 1).astype(np.int64)
    writer.write(exponent, _EXPONENT_FIELD)
    writer.write(fixed + _HALF, _VALUE_BITS)
    return (fixed * 2.0**-exponent).astype(np.float32)


def read_values(reader: BitReader, count: int) -> Array:
    """So many values, float32. Raises BadStream."""
    if not count:
        return np.zeros(0, np.float32)
    exponent = reader.number(_EXPONENT_FIELD)
    fixed = reader.read(_VALUE_BITS, count) - _HALF
    return (fixed * 2.0**-exponent).astype(np.float32)
