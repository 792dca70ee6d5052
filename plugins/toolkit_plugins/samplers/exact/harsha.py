"""Greedy rejection sampling of each latent by itself, without a budget of draws: exact.

Harsha et al. 2007, "The communication complexity of correlation"; thesis, algorithm 4. Draws
x_1, x_2, ... of the prior P are accepted as ``rejection`` says; there is no last one. The
number K that was accepted goes into the Elias delta code, a prefix code that takes
log2 K + O(log log K) bits and no table.

Corrected against the text: draws come from P, not from Q. The number of draws is 2^D_inf[Q || P] on
average, so latents for which that is over 2^``bits`` have proposals of their own (``_units``). Once
no draw that can come has a weight over S, what is left of Q (at most 1e-4) lies beyond the reach
of shared normals or between them; it is spread over Q by plain rejection sampling.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from toolkit.format.errors import BadStream
from toolkit.options import Options
from toolkit.sampling.coding.bits import BitReader, BitWriter, Ints
from toolkit.sampling.contract import Array, CodedSample, Sampler
from toolkit.sampling.randomness import SharedRandom
from toolkit_plugins.samplers.exact.units import choose_units, read_units, write_units
from toolkit_plugins.samplers.exact.weights import Floats, heaviest, mass_left, off_one, weights

_ROW = 8
"""Draws at one address."""
_ADDRESS_BITS = 40
_PART = 2**16
"""Latents that are worked on together: what that takes stays the same for larger levels."""
_NOTHING = 1e-6
"""Mass of Q that is let go: draws have 16 bits."""


class HarshaOptions(Options, frozen=True):
    """Options of the sampler."""

    bits: Annotated[int, Meta(ge=2, le=16)] = 8
    """Latents that take more than 2^bits draws on average get proposals of their own."""


class Harsha(Sampler):
    """See the module's docstring."""

    options_class: ClassVar[type[Options]] = HarshaOptions
    options: HarshaOptions
    exact = True

    def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
        """See ``Sampler.encode``. Raises ValueError for targets that aren't finite."""
        if not (np.isfinite(d).all() and np.isfinite(r).all() and (r > 0).all()):
            raise ValueError("targets must be finite, their scales positive")
        units, mean, width = choose_units(d, r, self.options.bits)
        numbers = _search(mean, off_one(width), random)
        writer = BitWriter()
        write_units(writer, units, d.size)
        side_bits = writer.bits
        writer.delta(numbers)
        values = units.values(_draws(random, numbers)).reshape(d.shape)
        return CodedSample(writer.data(), values, side_bits)

    def decode(self, data: bytes, shape: tuple[int, int, int], random: SharedRandom) -> Array:
        """See ``Sampler.decode``."""
        reader = BitReader(data)
        latents = int(np.prod(shape))
        units = read_units(reader, latents)
        numbers = reader.delta(latents)
        reader.finish()
        if numbers.max(initial=0) >= 1 << _ADDRESS_BITS:
            raise BadStream("the number of a draw that nobody makes")
        return units.values(_draws(random, numbers)).reshape(shape)


def _search(d: Floats, r: Floats, random: SharedRandom) -> Ints:
    """Of each latent, the number of the draw that is accepted."""
    private = random.private()
    accepted = np.zeros(len(d), np.int64)
    at = 0
    active = numbers = np.zeros(0, np.int64)  # latents at work, and which draw they are at
    sums = left = largest = np.zeros(0)  # their S, 1 - p* and largest weight
    rows = np.zeros((0, _ROW))
    while at < len(d) or len(active):
        if at < len(d) and len(active) < _PART // 2:  # the slow ones go on with the next part
            new = np.arange(at, min(at + _PART, len(d)))
            at += _PART
            active, numbers = np.append(active, new), np.append(numbers, 0 * new)
            sums, left = np.append(sums, np.zeros(len(new))), np.append(left, np.ones(len(new)))
            largest = np.append(largest, weights(d[new], r[new], heaviest(d[new], r[new])))
            rows = np.concatenate([rows, np.zeros((len(new), _ROW))])
        fresh = np.flatnonzero(numbers % _ROW == 0)
        rows[fresh] = random.normals(0, _rows(active[fresh], numbers[fresh]), _ROW)
        mean, width = d[active], r[active]
        weight = weights(mean, width, rows[np.arange(len(active)), numbers % _ROW])
        spent = (sums >= largest) | (left <= _NOTHING)
        beta = np.where(spent, weight / largest, (weight - sums) / np.maximum(left, _NOTHING))
        going = private.random(len(active)) >= beta
        accepted[active[~going]] = numbers[~going]
        active, numbers, rows = active[going], numbers[going] + 1, rows[going]
        sums, largest = sums[going] + left[going], largest[going]
        left = mass_left(mean[going], width[going], sums)
    return accepted


def _rows(latents: Ints, numbers: Ints | int) -> Ints:
    """Addresses of draws."""
    return (latents << _ADDRESS_BITS) + np.asarray(numbers) // _ROW


def _draws(random: SharedRandom, numbers: Ints) -> Array:
    """Draw ``numbers[i]`` of latent i."""
    draws = np.empty(len(numbers), np.float32)
    for at in range(0, len(numbers), _PART):
        part = numbers[at : at + _PART]
        here = np.arange(len(part))
        rows = random.normals(0, _rows(at + here, part), _ROW)
        draws[at : at + _PART] = rows[here, part % _ROW]
    return draws
