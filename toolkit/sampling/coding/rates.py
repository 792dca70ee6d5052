"""Rates of channels: what a stream says about how the bits are spread, in integers.

A channel's rate is one code on a logarithmic scale, four to the octave from 2^-12 to 2^5 bits
a latent, with 0 for a channel that gets nothing. The scale is a table of integers (units of
2^-16 bits), so that encoder and decoder cut the same blocks without agreeing on a float.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolkit.format.errors import BadStream
from toolkit.sampling.coding.bits import BitReader, BitWriter, Ints
from toolkit.sampling.contract import Array, kl_bits
from toolkit.sampling.figure_of_merit import log_weight_bits

UNIT_BITS = 16
"""Rates are in units of 2^-16 bits."""
_OCTAVES = 17
_MANTISSAS = (32768, 38968, 46341, 55109)  # 2^15 2^(k/4)


def _scale() -> Ints:
    steps = [(m << octave) >> 11 for octave in range(_OCTAVES) for m in _MANTISSAS]
    return np.array([0, *steps], np.int64)


SCALE = _scale()
"""Units of each code; strictly increasing, ``SCALE[0]`` is 0."""
_LARGEST = len(SCALE) - 1
_FIELD = 7
_WORTH = 0.2


def wanted_rates(d: Array, r: Array, multiple: float, mean: bool) -> NDArray[np.float64]:
    """Rates (C,), bits a latent, that channels of targets (C, H, W) should have: ``multiple``
    times their KL divergence.

    A channel with less than a quarter of a bit in all gets nothing. With ``mean``, elements
    of a channel without a rate will be 0, the prior's mean. Where the evidence lower bound
    loses less by that than a fifth of the channel's KL, about what a coder loses that isn't
    ideal, the channel gets nothing.
    """
    kl = kl_bits(d, r).reshape(len(d), -1)
    rates = np.maximum(kl.mean(axis=1), 0) * multiple
    used = kl.sum(axis=1) * multiple >= 0.25
    if mean:
        loss = -log_weight_bits(d, r, np.zeros_like(d)).reshape(len(d), -1).sum(axis=1)
        used &= loss >= _WORTH * kl.sum(axis=1)
    return np.where(used, rates, 0.0)


def choose_codes(wanted: NDArray[np.float64]) -> Ints:
    """Codes of the channels for ``wanted`` (C,) bits a latent, their sum as near as can be.

    The rounding of single channels is off by up to 9 %; of the neighbouring scalings, the one
    that makes up for it in total is taken.
    """
    wanted = wanted * 2**UNIT_BITS
    used = wanted > 0
    middles = np.sqrt(SCALE[1:-1] * SCALE[2:])
    best, error = np.zeros(len(wanted), np.int64), np.inf
    for factor in np.linspace(0.9, 1.1, 81):
        codes = np.where(used, 1 + np.searchsorted(middles, factor * wanted), 0)
        off = abs(float(SCALE[codes].sum() - wanted.sum()))
        if off < error:
            best, error = codes, off
    return best


def write_codes(writer: BitWriter, codes: Ints) -> None:
    """Smallest code and width of a field, then a field a channel."""
    used = codes[codes > 0]
    low = int(used.min()) if len(used) else 1
    width = int(used.max() - low + 1).bit_length() if len(used) else 0
    writer.write([low, width], [_FIELD, 4])
    writer.write(np.where(codes > 0, codes - low + 1, 0), width)


def read_codes(reader: BitReader, channels: int) -> Ints:
    """The codes of so many channels. Raises BadStream."""
    low, width = reader.number(_FIELD), reader.number(4)
    if low == 0 or width > _FIELD:
        raise BadStream("rates of channels that no encoder writes")
    fields = reader.read(width, channels)
    codes = np.where(fields > 0, fields + low - 1, 0)
    if codes.max(initial=0) > _LARGEST:
        raise BadStream("a channel's rate is off the scale")
    return codes
