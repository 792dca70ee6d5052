"""Rejection sampling of each latent by itself, with a budget of draws: exact.

Harsha et al. 2007; thesis, algorithms 4 and 1. Draws x_1, x_2, ... come from the prior P. The
i-th is accepted with probability

    beta_i = alpha_i(x_i) / ((1 - p*_(i-1)) P(x_i)),
    alpha_i = min(Q - p_(i-1), (1 - p*_(i-1)) P),    p_i = p_(i-1) + alpha_i,    p*_i = int p_i,

so that an accepted draw has the distribution Q. By induction p_i = min(Q, S_i P), S_i the sum of
(1 - p*_j) over j < i: for Gaussians Q > S P holds on an interval (outside one where Q is wider
than P), and what is left, 1 - p*_i = Q(interval) - S_i P(interval), has a closed form.

After 2^B draws a latent is sent by value, in 16 bits of fixed point. Corrected against the
text: draws come from P, not from Q; that value is drawn from what is left of Q,
(Q - p_N) / (1 - p*_N), without which the sample wouldn't be exact; the encoder goes on with the
value as it will be read.

The indices of the draws are entropy-coded, channels of about equal KL divergence together: by
``counts`` that were estimated before (``toolkit counts``), or, where none are named, by their
counts in this level, which are sent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from toolkit.errors import UsageError
from toolkit.format.errors import BadStream
from toolkit.options import Options
from toolkit.sampling.coding.bits import BitReader, BitWriter, Ints
from toolkit.sampling.coding.counts import (
    FINGERPRINT_BITS,
    NAME,
    Counts,
    counts_of_stream,
    find_counts,
    read_counts,
)
from toolkit.sampling.coding.integers import read_integers, write_integers
from toolkit.sampling.coding.values import read_values, write_values
from toolkit.sampling.contract import Array, CodedSample, Sampler, check_targets, kl_bits
from toolkit.sampling.randomness import SharedRandom
from toolkit_plugins.samplers.exact.weights import Floats, mass_left, off_one, weights

_BEYOND = 4
"""Latent elements with a KL so many bits over B aren't tried: hardly one would be accepted."""
_LOWEST_OCTAVE, _HIGHEST_OCTAVE = -6, 4
_OCTAVES = _HIGHEST_OCTAVE - _LOWEST_OCTAVE + 1
_TRIES = 10_000
_PART = 2**16
"""Latent elements that are worked on together: what that takes stays the same for larger levels."""


class RejectionOptions(Options, frozen=True):
    """Options of the rejection sampler."""

    bits: Annotated[int, Meta(ge=1, le=12)] = 8
    """B: at most 2^B draws a latent."""
    counts: Annotated[str, Meta(pattern=f"{NAME}|^$")] = ""
    """Index counts by name, as ``toolkit counts`` makes them; empty: sent with the level."""


class Rejection(Sampler[RejectionOptions]):
    """See the module's docstring."""

    options_class: ClassVar[type[Options]] = RejectionOptions
    exact = True

    def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
        """See ``Sampler.encode``."""
        check_targets(d, r)
        octaves = _octaves(d, r)
        counts = self._counts()
        search = _Search(d, r, random, self.options.bits)
        writer = BitWriter()
        if counts is not None:
            writer.write(counts.fingerprint, FINGERPRINT_BITS)
        write_integers(writer, octaves)
        side_bits = writer.bits
        (write_integers if counts is None else counts.write)(
            writer, search.indices, np.repeat(octaves, d[0].size)
        )
        before = writer.bits
        by_value = np.flatnonzero(search.indices == search.limit)
        values = write_values(writer, search.leftovers(by_value))
        side_bits += writer.bits - before
        sample = self._values(search.indices, values, random).reshape(d.shape)
        return CodedSample(writer.data(), sample, side_bits)

    def decode(self, data: bytes, shape: tuple[int, int, int], random: SharedRandom) -> Array:
        """See ``Sampler.decode``."""
        reader = BitReader(data)
        counts = None
        if self.options.counts:
            found = reader.number(FINGERPRINT_BITS)
            counts = counts_of_stream(self.options.counts, found, _folders())
            self._check(counts, BadStream)
        octaves = read_integers(reader, shape[0])
        elements = shape[1] * shape[2]
        if octaves.max(initial=0) >= _OCTAVES:
            raise BadStream("a channel's rate is off the scale")
        contexts = np.repeat(octaves, elements)
        if counts is None:
            indices = read_integers(reader, len(contexts), contexts)
        else:
            indices = counts.read(reader, contexts)
        limit = 1 << self.options.bits
        if indices.max(initial=0) > limit:
            raise BadStream("a draw beyond the last one")
        values = read_values(reader, int(np.count_nonzero(indices == limit)))
        reader.finish()
        return self._values(indices, values, random).reshape(shape)

    def count_indices(self, d: Array, r: Array, random: SharedRandom) -> Ints:
        """How often each index is sent for a level, by octave of the channels' KL divergence:
        (octaves, 2^B + 1), the last for elements that are sent by value."""
        indices = _Search(d, r, random, self.options.bits).indices
        symbols = (1 << self.options.bits) + 1
        cells = np.repeat(_octaves(d, r), d[0].size) * symbols + indices
        return np.bincount(cells, minlength=_OCTAVES * symbols).reshape(_OCTAVES, symbols)

    def identity(self) -> dict[str, Any]:
        """See ``Sampler.identity``. Raises MissingError, InputError or UsageError."""
        counts = self._counts()
        return {} if counts is None else {"counts_hash": f"{counts.fingerprint:08x}"}

    def _counts(self) -> Counts | None:
        """The counts that the options name."""
        if not self.options.counts:
            return None
        counts = read_counts(find_counts(self.options.counts, _folders()))
        self._check(counts, UsageError)
        return counts

    def _check(self, counts: Counts, error: type[Exception]) -> None:
        shape = (_OCTAVES, (1 << self.options.bits) + 1)
        if counts.table.shape != shape:
            raise error(
                f"index counts '{self.options.counts}' are of {counts.table.shape} contexts and "
                f"indices; with bits = {self.options.bits} it takes {shape}"
            )

    def _values(self, indices: Ints, values: Array, random: SharedRandom) -> Array:
        """What the decoder makes of the indices; the encoder calls it too."""
        by_value = indices == 1 << self.options.bits
        sample = np.empty(len(indices), np.float32)
        accepted = np.flatnonzero(~by_value)
        sample[accepted] = _draws(random, accepted, indices[accepted], self.options.bits)
        sample[by_value] = values
        return sample


class _Search:
    """The encoder's draws for a level."""

    indices: Ints
    """Of each latent, the draw that was accepted, or ``limit``."""

    def __init__(self, d: Array, r: Array, random: SharedRandom, bits: int) -> None:
        self.limit = 1 << bits
        self.d, r64 = d.ravel().astype(np.float64), r.ravel().astype(np.float64)
        self.r = off_one(r64)
        self.sums = np.zeros(len(self.d))
        """S of the draws that were made."""
        self.private = random.private()
        self.indices = np.full(len(self.d), self.limit)
        worth_it = np.flatnonzero(kl_bits(d, r).ravel() <= bits + _BEYOND)
        for at in range(0, len(worth_it), _PART):
            self._search(worth_it[at : at + _PART], random, bits)

    def _search(self, active: Ints, random: SharedRandom, bits: int) -> None:
        """Try draws for the elements ``active``."""
        part = np.ones(len(active))  # what is left of Q, 1 - p*
        for index in range(self.limit):
            x = _draws(random, active, np.full(len(active), index), bits).astype(np.float64)
            beta = (self._weights(active, x) - self.sums[active]) / np.maximum(part, 1e-12)
            accepted = self.private.random(len(active)) < beta
            self.indices[active[accepted]] = index
            active, part = active[~accepted], np.maximum(part[~accepted], 1e-12)
            if not len(active):
                break
            self.sums[active] += part
            d, r = self.d[active], self.r[active]
            part = mass_left(d, r, self.sums[active], -np.inf, np.inf)

    def _weights(self, elements: Ints, x: Floats) -> Floats:
        """Q / P at x."""
        return weights(self.d[elements], self.r[elements], x)

    def leftovers(self, elements: Ints) -> Array:
        """A draw of (Q - S P)^+ for each: draws of Q, thinned."""
        values = np.zeros(len(elements))
        todo = np.arange(len(elements))
        for _ in range(_TRIES):
            which = elements[todo]
            x = self.d[which] + self.r[which] * self.private.standard_normal(len(which))
            values[todo] = x
            keep = self._weights(which, x) * self.private.random(len(which)) >= self.sums[which]
            todo = todo[~keep]
            if not len(todo):
                break
        return values.astype(np.float32)


def _draws(random: SharedRandom, elements: Ints, indices: Ints, bits: int) -> Array:
    """Draw ``indices[i]`` of element ``elements[i]``."""
    return random.normals(0, (elements << bits) + indices, 1)[:, 0]


def _folders() -> list[Path]:
    """Where counts that ship are: beside the weights that they were made with."""
    return sorted(Path(__file__).parents[2].glob("*/weights"))


def _octaves(d: Array, r: Array) -> Ints:
    """Of each channel, log2 of its mean KL in bits, from 0 up."""
    mean = np.maximum(kl_bits(d, r).reshape(len(d), -1).mean(axis=1), 2.0**_LOWEST_OCTAVE)
    octaves = np.clip(np.rint(np.log2(mean)), _LOWEST_OCTAVE, _HIGHEST_OCTAVE)
    return octaves.astype(np.int64) - _LOWEST_OCTAVE
