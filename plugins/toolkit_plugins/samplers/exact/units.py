"""Latent elements with proposals of their own: what draws of N(0, 1) hardly reach, or don't.

An exact sampler without a budget of draws makes 2^D_inf[Q || P] of them on average: a million for
r = 2^-20, no end for a Q of which a part lies where no draw comes. So a unit u = 2^-k and a centre
a are sent for some elements, whose proposals are N(a u, u^2): with u a little wider than r and a u
next to d, Q is within 2 bits of that.

It takes ten bits and more to send those. Where most of Q is within reach, and only its end isn't
(r next to 1 or above it, some d), they are spent on the end alone: Q is the mixture

    Q(I) Q( . | I) + Q(above) Q( . | above) + Q(below) Q( . | below),

I being the interval that draws reach with weights up to 2^bits. The encoder tosses for the
component by itself. It draws from Q( . | I) by proposals N(0, 1), or, seldom, from an end by
proposals next to it. The sample has the distribution Q, whatever I is; the decoder sees units, and
needs to know nothing about intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from toolkit.format.errors import BadStream
from toolkit.sampling.coding.bits import BitReader, BitWriter, Ints, bit_length
from toolkit.sampling.contract import Array
from toolkit.sampling.randomness import TABLE_BITS
from toolkit_plugins.samplers.exact.targets import Targets
from toolkit_plugins.samplers.exact.weights import REACH, Floats, crossings, mass, off_one

_WIDEST = 0.7
"""Of r in its new unit, which is between half of this and this."""
_UNREACHED = 1e-4
"""Most mass of Q that may lie where one draw stands for all (of N(0, 1) itself it is 3e-5)."""
_LARGEST_END = 0.25
"""Where the ends of Q have more mass, all of Q gets the unit."""
_CELLS = 2**TABLE_BITS
_SNAP = 1e-6
_POWER_FIELD = 6
_WIDTH_FIELD = 3
_MIDDLE = 1 << (_POWER_FIELD - 1)
_FARTHEST = 2.0**24
_CENTRE_BITS = 52
_FARTHEST_CENTRE = 1 << _CENTRE_BITS


@dataclass(frozen=True)
class Units:
    """Proposals N(a 2^-k, 4^-k) of some of a level's latent elements."""

    places: Ints
    """(n,) which elements, ascending."""
    powers: Ints
    """(n,) k, from -32 to 31."""
    centres: Ints
    """(n,) a."""

    def values(self, draws: Array) -> Array:
        """The elements (N,) for draws of N(0, 1) in units of their proposals."""
        values = draws.copy()
        own = self.centres + draws[self.places].astype(np.float64)
        values[self.places] = np.ldexp(own, -self.powers.astype(np.int32))
        return values


def choose_units(
    d: Array, r: Array, bits: float, private: np.random.Generator
) -> tuple[Units, Targets]:
    """Units for targets (C, H, W), and what is to be drawn in them.

    Arguments:
        d, r: means and scales, (C, H, W). |d| is taken for 2^24 where it is more, r for 2^-24
            where it is less and for 2^24 where it is more.
        bits: no weight within the proposals N(0, 1) is over 2^bits.
        private: tosses for the component where a part of Q has a unit; the decoder needs none.

    Returns:
        Units of some elements, and the targets of all (C H W,) in units of their proposals.
    """
    d64 = np.clip(d.ravel().astype(np.float64), -_FARTHEST, _FARTHEST)
    r64 = off_one(np.clip(r.ravel().astype(np.float64), 1 / _FARTHEST, _FARTHEST))
    n = len(d64)
    low, high, whole = np.full(n, -np.inf), np.full(n, np.inf), np.ones(n)
    targets = Targets(d64, r64, low, high, whole)
    unreached = mass(d64, r64, -np.inf, -REACH) + mass(d64, r64, REACH, np.inf)
    hard = np.flatnonzero((targets.largest_bits() > bits) | (unreached > _UNREACHED))
    first, last = _interval(d64[hard], r64[hard], bits)
    below = mass(d64[hard], r64[hard], -np.inf, first)
    above = mass(d64[hard], r64[hard], last, np.inf)
    toss = private.random(len(hard))
    in_all = below + above > _LARGEST_END
    under, over = ~in_all & (toss < below), ~in_all & (toss >= 1 - above)
    inside = ~(in_all | under | over)
    low[hard] = np.select([inside, over], [first, last], -np.inf)
    high[hard] = np.select([inside, under], [last, first], np.inf)
    whole[hard] = mass(d64[hard], r64[hard], low[hard], high[hard])
    places = hard[~inside]
    near = np.select([under, over], [first, last], d64[hard])[~inside]
    powers = np.floor(np.log2(_WIDEST / r64[places])).astype(np.int64)
    shift = powers.astype(np.int32)
    centres = np.rint(np.ldexp(near, shift)).astype(np.int64)
    for values in (d64, low, high):
        values[places] = np.ldexp(values[places], shift) - centres
    r64[places] = np.ldexp(r64[places], shift)
    return Units(places, powers, centres), targets


def _interval(d: Floats, r: Floats, bits: float) -> tuple[Floats, Floats]:
    """An interval within reach on which no weight is over 2^bits, at ends of the table's cells;
    an empty one, at 0, where the weights around 0 are larger."""
    first, last = np.clip(crossings(d, r, 2.0**bits), -REACH, REACH)
    # r < 1: weights are larger between the two, what is left lies on either side
    left = mass(d, r, -REACH, first) > mass(d, r, last, REACH)
    none = first == last
    low = np.where(r < 1, np.where(left | none, -REACH, last), first)
    high = np.where(r < 1, np.where(left & ~none, first, REACH), last)
    low = ndtri(np.ceil(ndtr(low) * _CELLS - _SNAP) / _CELLS)
    high = ndtri(np.floor(ndtr(high) * _CELLS + _SNAP) / _CELLS)
    return np.where(low < high, low, 0.0), np.where(low < high, high, 0.0)


def write_units(writer: BitWriter, units: Units, elements: int) -> None:
    """How many, where, k, sign and size of a.

    Streams of the first version start with the number of units and have fields of full width;
    a number that there can't be says that this is another.
    """
    if not len(units.places):
        writer.gamma(0)
        return
    writer.gamma(elements + 1)
    writer.gamma(len(units.places))
    writer.increasing(units.places, elements)
    lowest = int(units.powers.min())
    width = int(units.powers.max() - lowest).bit_length()
    writer.write([lowest + _MIDDLE, width], [_POWER_FIELD, _WIDTH_FIELD])
    writer.write(units.powers - lowest, width)
    writer.write(units.centres < 0, 1)
    sizes, raw = np.abs(units.centres), np.maximum(units.powers, 0)
    writer.gamma(sizes >> raw)  # in units of the prior
    writer.write(sizes & ((np.int64(1) << raw) - 1), raw)


def read_units(reader: BitReader, elements: int) -> Units:
    """What ``write_units`` wrote, in this version or the first. Raises BadStream."""
    count = int(reader.gamma(1)[0])
    if count <= elements:
        return _read_first_version(reader, count, elements)
    if count > elements + 1:
        raise BadStream(f"units of a version that isn't known ({count - elements})")
    count = int(reader.gamma(1)[0])
    places = reader.increasing(count, elements)
    lowest, width = reader.number(_POWER_FIELD) - _MIDDLE, reader.number(_WIDTH_FIELD)
    powers = lowest + reader.read(width, count)
    if powers.max(initial=0) >= _MIDDLE:
        raise BadStream("a unit smaller than any encoder chooses")
    signs = 1 - 2 * reader.read(1, count)
    raw = np.maximum(powers, 0)
    coarse = reader.gamma(count)
    if (bit_length(np.minimum(coarse, _FARTHEST_CENTRE)) + raw).max(initial=0) > _CENTRE_BITS:
        raise BadStream("a proposal farther out than any encoder puts one")
    return Units(places, powers, signs * ((coarse << raw) + reader.read(raw)))


def _read_first_version(reader: BitReader, count: int, elements: int) -> Units:
    places = reader.increasing(count, elements)
    powers = reader.read(_POWER_FIELD, count) - _MIDDLE
    signs = 1 - 2 * reader.read(1, count)
    centres = reader.gamma(count)
    if centres.max(initial=0) >= _FARTHEST_CENTRE:
        raise BadStream("a proposal farther out than any encoder puts one")
    return Units(places, powers, signs * centres)
