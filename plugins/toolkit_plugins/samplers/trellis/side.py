"""Side information of a trellis-coded level: rates, their common scale, shifts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from toolkit.format.errors import BadStream
from toolkit.sampling.coding.bits import BitReader, BitWriter
from toolkit.sampling.contract import Array, kl_bits
from toolkit.sampling.rate_prediction import Ints8
from toolkit_plugins.samplers.trellis.corrections import (
    Corrections,
    choose_corrections,
)
from toolkit_plugins.samplers.trellis.rates import (
    FINEST,
    ElementRates,
    Profile,
    choose_exponent,
    choose_profile,
    sums_of_tiles,
    tile_count,
)

SCALE_BITS = 20
"""The common scale of all rates is a multiple of 2^-20, below 16."""
LARGEST_SCALE = (16 << SCALE_BITS) - 1
_SCALE_FIELD = SCALE_BITS + 4
_PRECISION_FIELD = 5
_ROUGHLY = 6
"""Binary places of a scale that needn't hit a size: J is flat around the best."""
_LARGEST_SHIFT = 2**22
_SHIFT_BITS = 18.0
"""About what one shift takes to send."""
_LEAST_BITS = 0.25
"""Channels with less get no rate."""


@dataclass(frozen=True)
class Side:
    """What is sent beside the bits that are searched for."""

    profile: Profile | Corrections
    """Rates of the cells, or of elements that are guessed."""
    scale: int
    """All rates are multiplied by ``scale 2^-20``."""
    places: NDArray[np.int64]
    """Elements that are moved, flat indices, increasing; few, if any."""
    shifts: NDArray[np.float32]
    """By how much each of these is moved; whole numbers."""
    layout: int = 1
    """Of the stream."""
    precision: int = SCALE_BITS
    """Binary places of the scale that are sent; in layout 1, all."""

    def members(self) -> NDArray[np.int64] | None:
        """Elements that are coded, flat indices, increasing; None for all. The values of others are
        0, but for their shifts."""
        return self.profile.members

    def rates(self) -> ElementRates:
        """Of the elements."""
        return self.profile.rates(self.scale, SCALE_BITS)

    def shifts_of(self, elements: NDArray[np.int64]) -> NDArray[np.float32] | np.float32:
        """By how much elements are moved, flat indices."""
        if not len(self.places):
            return np.float32(0)
        at = np.minimum(np.searchsorted(self.places, elements), len(self.places) - 1)
        return np.where(self.places[at] == elements, self.shifts[at], np.float32(0))

    def scaled(self, scale: int) -> Side:
        """The same with another scale, sent in full."""
        return replace(self, scale=scale, precision=SCALE_BITS)

    def write(self) -> bytes:
        """A whole number of bytes; none where all is zero."""
        if not (self.profile.codes_any or len(self.places)):
            return b""
        out = BitWriter()
        if self.layout > 1:
            out.write(self.precision, _PRECISION_FIELD)
        unsent = SCALE_BITS - self.precision
        out.write(self.scale >> unsent, _SCALE_FIELD - unsent)
        self.profile.write(out)
        values = self.shifts.astype(np.int64)
        out.gamma(len(self.places))
        out.increasing(self.places, int(np.prod(self.profile.shape)))
        out.write(values < 0, 1)
        out.gamma(np.abs(values) - 1)
        return out.data()

    @classmethod
    def read(
        cls,
        data: bytes,
        shape: tuple[int, int, int],
        layout: int = 1,
        guesses: Ints8 | None = None,
    ) -> tuple[Side, int]:
        """From the start of ``data``, and how many bytes it took. Raises BadStream."""
        if not data:
            nothing = _nothing(shape, layout) if guesses is None else Corrections.nothing(guesses)
            return cls(nothing, 0, np.zeros(0, np.int64), np.zeros(0, np.float32), layout), 0
        reader = BitReader(data)
        precision = reader.number(_PRECISION_FIELD) if layout > 1 else SCALE_BITS
        unsent = SCALE_BITS - precision
        if unsent < 0:
            raise BadStream(f"trellis: a scale of {precision} binary places")
        scale = reader.number(_SCALE_FIELD - unsent) << unsent
        profile = (
            Profile.read(reader, shape, layout)
            if guesses is None
            else Corrections.read(reader, guesses)
        )
        count = int(reader.gamma(1)[0])
        places = reader.increasing(count, int(np.prod(shape)))
        signs = 1 - 2 * reader.read(1, count)
        sizes = reader.gamma(count) + 1
        if (sizes > _LARGEST_SHIFT).any():
            raise BadStream(f"trellis: a shift of {sizes.max()}")
        shifts = (signs * sizes).astype(np.float32)
        end = -(-reader.at // 8)
        if data[end - 1] & ((1 << (8 * end - reader.at)) - 1):
            raise BadStream("trellis: side information isn't followed by zeros")
        return cls(profile, scale, places, shifts, layout, precision), end


def _nothing(shape: tuple[int, int, int], layout: int) -> Profile:
    exponent = choose_exponent(0, shape)
    cells = np.zeros((shape[0], tile_count(shape, exponent)))
    return choose_profile(cells, exponent, shape, 1, layout)


def choose_side(
    d: Array, r: Array, nu: int, multiple: float, layout: int = 1, guesses: Ints8 | None = None
) -> Side:
    """Side information for targets (C, H, W): ``multiple`` bits sent for each bit of KL.

    Arguments:
        guesses: of the elements' rates, int8 (C, H, W), in steps of 1/8 octave; None: none.
    """
    channels, height, width = shape = d.shape[0], d.shape[1], d.shape[2]
    places, shifts, sums = [], [], []
    for channel in range(channels):  # one at a time: float64 copies of a level are large
        moved = far_out(d[channel], r[channel], nu)
        found = np.flatnonzero(moved)
        places.append(found + channel * height * width)
        shifts.append(moved.ravel()[found])
        left = kl_bits(d[channel] - moved, r[channel])
        sums.append(sums_of_tiles(np.maximum(left, 0), FINEST))
    cells = np.array(sums)
    profile: Profile | Corrections
    if guesses is None:
        exponent = choose_exponent(float(cells.sum()), shape)
        cells = sums_of_tiles(cells, exponent - FINEST).reshape(channels, -1)
        profile = choose_profile(cells, exponent, shape, _LEAST_BITS, layout)
        wanted = float(cells[profile.coded() & profile.used[:, None]].sum())
    else:
        exponent = choose_exponent(float(cells.sum()), shape, guessed=True)
        cells = sums_of_tiles(cells, exponent - FINEST).reshape(channels, -1)
        profile = choose_corrections(cells, exponent, guesses)
        wanted = _bits_of(profile.members, d, r, np.concatenate(places), np.concatenate(shifts))
    sends = profile.sent_bits()
    scale = round(2**SCALE_BITS * multiple * wanted / sends) if sends > 0 else 0
    precision = SCALE_BITS if layout == 1 else _ROUGHLY
    unsent = SCALE_BITS - precision
    scale = min(-(-scale >> unsent), LARGEST_SCALE >> unsent) << unsent
    return Side(profile, scale, np.concatenate(places), np.concatenate(shifts), layout, precision)


def _bits_of(
    members: NDArray[np.int64],
    d: Array,
    r: Array,
    places: NDArray[np.int64],
    shifts: NDArray[np.float32],
) -> float:
    """KL divergence of the elements that are coded, bits."""
    near = d.reshape(-1)[members]
    coded = np.isin(places, members, assume_unique=True)
    near[np.searchsorted(members, places[coded])] -= shifts[coded]
    return float(np.maximum(kl_bits(near, r.reshape(-1)[members]), 0).sum())


def far_out(d: Array, r: Array, nu: int) -> Array:
    """Whole numbers by which elements had better be moved, as ``d``; 0 for nearly all.

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
