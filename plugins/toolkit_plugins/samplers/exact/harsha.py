"""Greedy rejection sampling of each latent element by itself, without a budget of draws: exact.

Harsha et al. 2007, "The communication complexity of correlation"; thesis, algorithm 4. Draws
x_1, x_2, ... of the prior P are accepted as ``rejection`` says; there is no last one. The
index K that was accepted goes into the Elias delta code, a prefix code that takes
log2 K + O(log log K) bits and no table.

Corrected against the text: draws come from P, not from Q. The number of draws is 2^D_inf[Q || P] on
average. Where that is over 2^``bits``, Q or the part of it that draws don't reach has a proposal of
its own (``units``). Once no draw that can come has a weight over S, what is left of Q (some 1e-4)
lies between the 16-bit shared normals; it is spread over Q by plain rejection sampling.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from toolkit.format.errors import BadStream
from toolkit.options import Options
from toolkit.sampling.coding.bits import BitReader, BitWriter, Ints
from toolkit.sampling.contract import Array, CodedSample, Sampler, check_targets
from toolkit.sampling.randomness import SharedRandom
from toolkit_plugins.samplers.exact.targets import Targets
from toolkit_plugins.samplers.exact.units import choose_units, read_units, write_units
from toolkit_plugins.samplers.exact.weights import Floats, first_accepted

_ROW = 8
"""Draws at one address."""
_ADDRESS_BITS = 40
_PART = 2**16
"""Latent elements that are worked on together: so memory doesn't grow with the level."""
_DRAWS = 2**19
"""Draws made at a time, beyond those of one address each."""
_NOTHING = 1e-6
"""Mass of Q that is let go: draws have 16 bits."""
_TOSSES = 1
"""Private randomness for the choice of units."""


class HarshaOptions(Options, frozen=True):
    """Options of the sampler."""

    bits: Annotated[int, Meta(ge=2, le=16)] = 8
    """Parts of targets that take more than 2^bits draws on average get proposals of their own."""


class Harsha(Sampler[HarshaOptions]):
    """See the module's docstring."""

    options_class: ClassVar[type[Options]] = HarshaOptions
    exact = True

    def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
        """See ``Sampler.encode``."""
        check_targets(d, r)
        units, targets = choose_units(d, r, self.options.bits, random.private(_TOSSES))
        indices = _search(targets, random)
        writer = BitWriter()
        write_units(writer, units, d.size)
        side_bits = writer.bits
        writer.delta(indices)
        values = units.values(_draws(random, indices)).reshape(d.shape)
        return CodedSample(writer.data(), values, side_bits)

    def decode(self, data: bytes, shape: tuple[int, int, int], random: SharedRandom) -> Array:
        """See ``Sampler.decode``."""
        reader = BitReader(data)
        elements = int(np.prod(shape))
        units = read_units(reader, elements)
        indices = reader.delta(elements)
        reader.finish()
        if indices.max(initial=0) >= 1 << _ADDRESS_BITS:
            raise BadStream("a sample index that no encoder reaches")
        return units.values(_draws(random, indices)).reshape(shape)


def _search(targets: Targets, random: SharedRandom) -> Ints:
    """Of each latent element, the index of the draw that is accepted."""
    private = random.private()
    accepted = np.empty(len(targets.d), np.int64)
    for at in range(0, len(accepted), _PART):
        active = np.arange(at, min(at + _PART, len(accepted)))
        table, state = _table(targets[active]), np.tile([0.0, 1.0], (len(active), 1))
        made = 0
        while len(active):
            count = _ROW * int(np.clip(_DRAWS // (len(active) * _ROW), 1, 1 + made // _ROW))
            rows = _rows(active[:, None], made + np.arange(0, count, _ROW))
            draws = random.normals(0, rows.ravel(), _ROW).reshape(len(active), count)
            found = np.empty(len(active), np.int64)
            uniforms = private.random(draws.shape)
            first_accepted(draws.astype(np.float64), uniforms, table, state, _NOTHING, found)
            going = found < 0
            accepted[active[~going]] = made + found[~going]
            active, table, state = active[going], table[going], state[going]
            made += count
    return accepted


def _table(targets: Targets) -> Floats:
    """What ``first_accepted`` wants to know of them."""
    return np.stack([*vars(targets).values(), np.exp(targets.largest_log())], axis=1)


def _rows(elements: Ints, indices: Ints | int) -> Ints:
    """Addresses of draws."""
    return (elements << _ADDRESS_BITS) + np.asarray(indices) // _ROW


def _draws(random: SharedRandom, indices: Ints) -> Array:
    """Draw ``indices[i]`` of element i."""
    draws = np.empty(len(indices), np.float32)
    for at in range(0, len(indices), _PART):
        part = indices[at : at + _PART]
        here = np.arange(len(part))
        rows = random.normals(0, _rows(at + here, part), _ROW)
        draws[at : at + _PART] = rows[here, part % _ROW]
    return draws
