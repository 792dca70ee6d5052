"""Latents with proposals of their own: those that draws of N(0, 1) don't reach, or hardly ever.

An exact sampler without a budget of draws makes 2^D_inf[Q || P] of them on average: a million for
r = 2^-20, no end for a Q whose mass lies where no draw comes. For such latents a unit u = 2^-k
and a centre a are sent, and proposals are N(a u, u^2): with u a little wider than r and a u next
to d, Q is within 2 bits of that. Which latents, and k and a, follow from their targets alone, so
the sample stays exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from toolkit.format.errors import BadStream
from toolkit.sampling.coding.bits import BitReader, BitWriter, Ints
from toolkit.sampling.contract import Array
from toolkit_plugins.samplers.exact.weights import REACH, Floats, largest_log2

_WIDEST = 0.7
"""Of r in its new unit, which is between half of this and this."""
_UNREACHED = 1e-4
"""Most mass of Q that may lie where no draw of N(0, 1) comes (of N(0, 1) itself it is 2e-5)."""
_POWER_FIELD = 6
_MIDDLE = 1 << (_POWER_FIELD - 1)
_FARTHEST = 2.0**24


@dataclass(frozen=True)
class Units:
    """Proposals N(a 2^-k, 4^-k) of some of a level's latents."""

    places: Ints
    """(n,) which latents, ascending."""
    powers: Ints
    """(n,) k, from -32 to 31."""
    centres: Ints
    """(n,) a."""

    def values(self, draws: Array) -> Array:
        """The latents (N,) for draws of N(0, 1) in units of their proposals."""
        values = draws.copy()
        own = self.centres + draws[self.places].astype(np.float64)
        values[self.places] = np.ldexp(own, -self.powers.astype(np.int32))
        return values


def choose_units(d: Array, r: Array, bits: float) -> tuple[Units, Floats, Floats]:
    """Units for targets (C, H, W), and the targets d and r (N,) in units of their proposals.

    Latents whose largest weight is over 2^bits get a unit of their own. |d| is taken for 2^24
    where it is more, r for 2^-24 where it is less and for 2^24 where it is more.
    """
    d64 = np.clip(d.ravel().astype(np.float64), -_FARTHEST, _FARTHEST)
    r64 = np.clip(r.ravel().astype(np.float64), 1 / _FARTHEST, _FARTHEST)
    unreached = ndtr((d64 - REACH) / r64) + ndtr((-d64 - REACH) / r64)
    places = np.flatnonzero((largest_log2(d64, r64) > bits) | (unreached > _UNREACHED))
    powers = np.floor(np.log2(_WIDEST / r64[places])).astype(np.int64)
    shift = powers.astype(np.int32)
    centres = np.rint(np.ldexp(d64[places], shift)).astype(np.int64)
    d64[places] = np.ldexp(d64[places], shift) - centres
    r64[places] = np.ldexp(r64[places], shift)
    return Units(places, powers, centres), d64, r64


def write_units(writer: BitWriter, units: Units, latents: int) -> None:
    """How many, where, k, sign and size of a."""
    writer.gamma(len(units.places))
    writer.increasing(units.places, latents)
    writer.write(units.powers + _MIDDLE, _POWER_FIELD)
    writer.write(units.centres < 0, 1)
    writer.gamma(np.abs(units.centres))


def read_units(reader: BitReader, latents: int) -> Units:
    """What ``write_units`` wrote. Raises BadStream."""
    count = int(reader.gamma(1)[0])
    places = reader.increasing(count, latents)
    powers = reader.read(_POWER_FIELD, count) - _MIDDLE
    signs = 1 - 2 * reader.read(1, count)
    centres = reader.gamma(count)
    if centres.max(initial=0) >= 1 << 52:
        raise BadStream("a proposal farther out than any encoder puts one")
    return Units(places, powers, signs * centres)
