"""Outliers: latent elements so far out that no draw of the prior comes near.

An element with |d| over the limit is shifted by the integer nearest to d; what remains stays in
its block. Sent: how many, where (Elias-Fano), sign and size of the shift.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolkit.sampling.coding.bits import BitReader, BitWriter
from toolkit.sampling.contract import Array

LIMIT = 4.0
"""In units of the prior's scale; exact draws pass it once in 16,000."""
FARTHEST = 2**24
_LEAST = 4


def shift_outliers(d: Array) -> tuple[Array, Array]:
    """Shifts, integers or 0, and d less the shifts; both shaped as ``d``.

    A |d| over 2^24, which float32 can't tell from its neighbours, is taken for 2^24.
    """
    d = np.clip(d, -FARTHEST, FARTHEST)
    shifts = np.where(np.abs(d) > LIMIT, np.rint(d), np.float32(0)).astype(np.float32)
    return shifts, (d - shifts).astype(np.float32)


def write_shifts(writer: BitWriter, shifts: Array) -> None:
    """All about the shifts of a level."""
    flat = shifts.reshape(-1)
    places = np.flatnonzero(flat)
    writer.gamma(len(places))
    writer.increasing(places, flat.size)
    values = flat[places].astype(np.int64)
    writer.write(values < 0, 1)
    writer.gamma(np.abs(values) - _LEAST)


def read_shifts(reader: BitReader, elements: int) -> NDArray[np.float32]:
    """Shifts (elements,) of a level. Raises BadStream."""
    count = int(reader.gamma(1)[0])
    places = reader.increasing(count, elements)
    signs = 1 - 2 * reader.read(1, count)
    sizes = np.minimum(reader.gamma(count), FARTHEST) + _LEAST
    shifts = np.zeros(elements, np.float32)
    shifts[places] = signs * sizes
    return shifts
