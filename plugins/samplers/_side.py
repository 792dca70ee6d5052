"""Side information of a trellis-coded level: rates, their common scale, shifts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from toolkit.badfile import BadStream
from toolkit.bits import BitReader, BitWriter, Ints
from toolkit.rates import SCALE, UNIT_BITS, choose_codes, read_codes, write_codes
from toolkit.sampling import Array, kl_bits
from toolkit_plugins.samplers._viterbi import RATE_BITS

SCALE_BITS = 20
"""The common scale of all rates is a multiple of 2^-20, below 16."""
_SCALE_FIELD = SCALE_BITS + 4
_COARSE_FIELD = 2
_ONE = 1 << SCALE_BITS
_LARGEST_SHIFT = 2**22
_SHIFT_BITS = 14.0
"""About what one shift takes to send."""


@dataclass(frozen=True)
class Side:
    """What is sent beside the bits that are searched for."""

    codes: Ints
    """Rates of the channels (C), as codes of ``toolkit.rates``."""
    scale: int
    """All rates are multiplied by ``scale 2^-20``."""
    shifts: NDArray[np.float32]
    """By how much each dim is moved, (C H W); whole numbers, nearly all 0."""

    @property
    def rates(self) -> NDArray[np.int64]:
        """Rates (C) in units of 2^-24 bits a dim."""
        return (SCALE[self.codes] << (RATE_BITS - UNIT_BITS)) * self.scale >> SCALE_BITS

    def scaled(self, scale: int) -> Side:
        """The same with another scale."""
        return replace(self, scale=scale)

    def write(self) -> bytes:
        """A whole number of bytes; none where all is zero."""
        if not (self.codes.any() or self.shifts.any()):
            return b""
        out = BitWriter()
        coarse = _common_zeros(self.codes)
        out.write(coarse, _COARSE_FIELD)
        write_codes(out, self.codes >> coarse)
        out.write(self.scale != _ONE, 1)
        if self.scale != _ONE:
            out.write(self.scale, _SCALE_FIELD)
        places = np.flatnonzero(self.shifts)
        values = self.shifts[places].astype(np.int64)
        out.gamma(len(places))
        out.increasing(places, len(self.shifts))
        out.write(values < 0, 1)
        out.gamma(np.abs(values) - 1)
        return out.data()

    @classmethod
    def read(cls, data: bytes, shape: tuple[int, int, int]) -> tuple[Side, int]:
        """From the start of ``data``, and how many bytes it took. Raises BadStream."""
        shifts = np.zeros(int(np.prod(shape)), np.float32)
        if not data:
            return cls(np.zeros(shape[0], np.int64), _ONE, shifts), 0
        reader = BitReader(data)
        coarse = reader.number(_COARSE_FIELD)
        codes = read_codes(reader, shape[0]) << coarse
        if codes.max(initial=0) >= len(SCALE):
            raise BadStream("trellis: a channel's rate is off the scale")
        scale = reader.number(_SCALE_FIELD) if reader.number(1) else _ONE
        count = int(reader.gamma(1)[0])
        places = reader.increasing(count, len(shifts))
        signs = 1 - 2 * reader.read(1, count)
        sizes = reader.gamma(count) + 1
        if (sizes > _LARGEST_SHIFT).any():
            raise BadStream(f"trellis: a shift of {sizes.max()}")
        shifts[places] = signs * sizes
        end = -(-reader.at // 8)
        if data[end - 1] & ((1 << (8 * end - reader.at)) - 1):
            raise BadStream("trellis: side information isn't followed by zeros")
        return cls(codes, scale, shifts), end


def choose_rates(wanted: NDArray[np.float64], dims: int) -> Ints:
    """Codes of rates (C) near ``wanted`` bits a dim, of channels of ``dims`` dims.

    The fewer bits there are, the coarser: codes are multiples of 2^k, k from 0 to 3, so that
    they take less to send. A rate that is off by a factor of 1 + e costs the channel about e^2
    of its bits.
    """
    fine = choose_codes(wanted)
    best, least = fine, np.inf
    for k in range(1 << _COARSE_FIELD):
        codes = np.where(fine > 0, np.maximum(1, (fine + (1 << k >> 1)) >> k) << k, 0)
        codes = np.minimum(codes, (len(SCALE) - 1) >> k << k)
        rates = SCALE[codes] * 2.0**-UNIT_BITS
        used = (wanted > 0) & (codes > 0)
        off = np.log(rates[used] / wanted[used])
        out = BitWriter()
        write_codes(out, codes >> k)
        cost = out.bits + dims * float(np.sum(wanted[used] * off * off))
        if cost < least:
            best, least = codes, cost
    return best


def _common_zeros(codes: Ints) -> int:
    """Lowest bits that are 0 in all codes, 3 at most."""
    together = int(np.bitwise_or.reduce(codes)) | 1 << ((1 << _COARSE_FIELD) - 1)
    return (together & -together).bit_length() - 1


def far_out(d: Array, r: Array, nu: int) -> Array:
    """Whole numbers by which dims had better be moved, as ``d``; 0 for nearly all.

    A search over 2^nu states finds values near d at a density of about 2^nu phi(d): where that
    is too coarse for the target's width, a shift by the nearest whole number is cheaper.
    """
    d64, r64 = d.astype(np.float64), np.maximum(r.astype(np.float64), 2.0**-7)
    shift = np.clip(np.rint(d64), -_LARGEST_SHIFT, _LARGEST_SHIFT)
    log_density = nu * np.log(2) - 0.5 * np.minimum(d64 * d64, 200) - 0.919
    miss = 0.25 * np.exp(-2 * log_density)
    precision = np.maximum(0, 1 / (r64 * r64) - 1)
    stay = kl_bits(d, r) + precision * miss / np.log(2)
    go = kl_bits((d64 - shift).astype(np.float32), r) + _SHIFT_BITS
    return np.where((shift != 0) & (stay > go), shift, 0).astype(np.float32)
