"""Rates of channels as small numbers that are sent: floating point of few bits.

Code 0 is no bits at all; code c > 0 has exponent and mantissa, ``e, f = divmod(c - 1, 2^m)``,
and stands for ``2^-10 (1 + f 2^-m) 2^e`` bits a dim. Everything is done in whole numbers, so
every decoder finds the same rates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from toolkit_plugins.samplers._bits import BitReader, BitWriter, unzigzag, zigzag

from toolkit.badfile import BadStream

LOWEST = -10
OCTAVES = 13
"""Up to just below 8 bits a dim."""
MAX_MANTISSA = 4


def rate_table(mantissa: int, unit_bits: int) -> NDArray[np.int64]:
    """Rates of all codes in units of 2^-unit_bits; ``mantissa`` is m, 0 to 4."""
    code = np.arange(OCTAVES << mantissa, dtype=np.int64)
    exponent, fraction = code >> mantissa, code & ((1 << mantissa) - 1)
    scaled = ((1 << mantissa) + fraction) << exponent
    return np.concatenate([[0], scaled << (unit_bits + LOWEST - mantissa)])


def nearest_codes(bits: NDArray[np.float64], mantissa: int, unit_bits: int) -> NDArray[np.int64]:
    """Codes of the rates nearest (by ratio) to ``bits`` a dim."""
    table = rate_table(mantissa, unit_bits).astype(np.float64) * 2.0**-unit_bits
    borders = np.sqrt(table[1:-1] * table[2:])
    borders = np.concatenate([[table[1] / 2], borders])
    return np.searchsorted(borders, bits)


def write_codes(out: BitWriter, codes: NDArray[np.int64], mantissa: int) -> None:
    """Mantissa's width and reference (median) code, then Rice codes of the differences."""
    middle = int(np.median(codes))
    out.field(mantissa, 3)
    out.field(middle, 8)
    out.rice(zigzag(codes - middle))


def read_codes(data: BitReader, channels: int, unit_bits: int) -> NDArray[np.int64]:
    """The rates of ``channels`` channels in units of 2^-unit_bits. Raises BadStream."""
    mantissa = data.field(3)
    if mantissa > MAX_MANTISSA:
        raise BadStream(f"rates with {mantissa} bits of mantissa")
    table = rate_table(mantissa, unit_bits)
    middle = data.field(8)
    codes = unzigzag(data.rice(channels)) + middle
    if codes.min() < 0 or codes.max() >= len(table):
        raise BadStream("a channel's rate is out of range")
    return table[codes]
