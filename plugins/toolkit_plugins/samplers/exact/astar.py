"""A* coding of small blocks, not cut off: exact draws by the Poisson functional representation.

Draw x_i of the prior arrives at time t_i of a Poisson process of rate 1. Sent is the index of

    argmin_i t_i / w(x_i),    w = q / p,

whose x_i has exactly the distribution q (Li and El Gamal 2018). Times only grow: with w_max the
largest weight, no draw after the n-th can win once t_n / w_max >= min_(i <= n) t_i / w(x_i), and
that is where the search ends, after w_max draws on average. This is A* coding with the global bound
(Flamich, Markou and Hernandez-Lobato 2022, "Fast relative entropy coding with A* coding",
algorithm 1). Winners' indices are about Zipf distributed; they are coded by their
logarithm, whose frequencies are sent, and raw bits (``toolkit.sampling.coding.integers``).

For a block, log w_max is a sum over its latent elements; blocks are made so short that the mean
number of draws stays within 2^``bits``. Elements that are far out or very narrow, and the ends of
wide ones, whose weights have no bound, have proposals of their own (``units``).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from toolkit.format.errors import BadStream
from toolkit.options import Options
from toolkit.sampling.coding.bits import BitReader, BitWriter, Ints
from toolkit.sampling.coding.integers import read_integers, write_integers
from toolkit.sampling.contract import Array, CodedSample, Sampler, check_targets
from toolkit.sampling.randomness import SharedRandom
from toolkit_plugins.samplers.exact.targets import Targets
from toolkit_plugins.samplers.exact.units import choose_units, read_units, write_units
from toolkit_plugins.samplers.exact.weights import Floats

LENGTHS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256])
"""Latent elements in a block; a channel has blocks of one length, and its end."""
_LENGTH_FIELD = 4
_INDEX_BITS = 32
_OVER = 2
"""A block may take 2^this times as many draws as the mean block."""
_NUMBERS = 2**19
"""Normals made at a time."""
_TOSSES = 1
"""Private randomness for the choice of units."""


class AStarOptions(Options, frozen=True):
    """Options of the sampler."""

    bits: Annotated[int, Meta(ge=3, le=16)] = 10
    """A channel's blocks take 2^bits draws on average, at most."""


class AStar(Sampler[AStarOptions]):
    """See the module's docstring."""

    options_class: ClassVar[type[Options]] = AStarOptions
    exact = True

    def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
        """See ``Sampler.encode``."""
        check_targets(d, r)
        units, targets = choose_units(d, r, self.options.bits, random.private(_TOSSES))
        lengths = self._lengths(targets.largest_bits().reshape(len(d), -1))
        writer = BitWriter()
        write_units(writer, units, d.size)
        writer.write(lengths, _LENGTH_FIELD)
        side_bits = writer.bits
        blocks = _blocks(lengths, d[0].size)
        private = random.private()
        targets = targets.padded()  # places of no latent element
        found = [_search(targets[block], block, random, private) for block in blocks]
        write_integers(writer, np.concatenate(found), _contexts(blocks))
        values = units.values(_draws(random, blocks, found, d.size)).reshape(d.shape)
        return CodedSample(writer.data(), values, side_bits)

    def decode(self, data: bytes, shape: tuple[int, int, int], random: SharedRandom) -> Array:
        """See ``Sampler.decode``."""
        reader = BitReader(data)
        elements = int(np.prod(shape))
        units = read_units(reader, elements)
        blocks = _blocks(reader.read(_LENGTH_FIELD, shape[0]), shape[1] * shape[2])
        contexts = _contexts(blocks)
        indices = read_integers(reader, len(contexts), contexts)
        reader.finish()
        if indices.max(initial=0) >= 1 << _INDEX_BITS:
            raise BadStream("a sample index that no encoder reaches")
        ends = np.cumsum([len(block) for block in blocks])
        parts = np.split(indices, ends[:-1])
        return units.values(_draws(random, blocks, parts, elements)).reshape(shape)

    def _lengths(self, cost: Floats) -> Ints:
        """Codes of the channels' lengths for log2 w_max of the elements (C, plane): the longest
        for which the mean number of draws, and hardly more in any block, is within 2^bits."""
        codes = np.zeros(len(cost), np.int64)
        for code, length in enumerate(LENGTHS):
            filled = np.pad(cost, ((0, 0), (0, -cost.shape[1] % length)))
            blocks = filled.reshape(len(cost), -1, length).sum(axis=2)
            most = blocks.max(axis=1) <= self.options.bits + _OVER
            mean = np.exp2(np.minimum(blocks, 60)).mean(axis=1) <= 2**self.options.bits
            codes[most & mean] = code
        return codes


def _blocks(lengths: Ints, plane: int) -> list[Ints]:
    """Of each length that occurs: the elements of its blocks, (n, length); C plane for none."""
    none = len(lengths) * plane
    found = []
    for code in np.unique(lengths):
        length = int(LENGTHS[code])
        columns = np.arange(-(-plane // length) * length)
        channels = np.flatnonzero(lengths == code)
        elements = np.where(columns < plane, channels[:, None] * plane + columns, none)
        found.append(elements.reshape(-1, length))
    return found


def _contexts(blocks: list[Ints]) -> Ints:
    return np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])


def _search(
    targets: Targets, elements: Ints, random: SharedRandom, private: np.random.Generator
) -> Ints:
    """Indices (n,) of the draws that win, for blocks of targets (n, length)."""
    size = max(1, _NUMBERS // (4 * elements.shape[1]))
    return np.concatenate(
        [
            _race(targets[at : at + size], elements[at : at + size, 0], random, private)
            for at in range(0, len(elements), size)
        ]
    )


def _race(
    targets: Targets, first: Ints, random: SharedRandom, private: np.random.Generator
) -> Ints:
    """As ``_search``; ``first`` is each block's first latent element, its address."""
    blocks, length = targets.d.shape
    a, b, constant = targets.polynomial()
    bound = (targets.largest_log() - constant).sum(axis=1)
    bounded = np.isfinite(targets.low).any(axis=1) | np.isfinite(targets.high).any(axis=1)
    indices = np.zeros(blocks, np.int64)
    best = np.full(blocks, np.inf)  # of log t - log w
    time = np.zeros(blocks)
    active, made = np.arange(blocks), 0
    while len(active):
        count = int(np.clip(_NUMBERS // (len(active) * length), 1, 4 + made))
        rows = (first[active, None] << _INDEX_BITS) + np.arange(made, made + count)
        draws = random.normals(0, rows.ravel(), length).astype(np.float64)
        draws = draws.reshape(len(active), count, length)
        weights = ((a[active, None] * draws + b[active, None]) * draws).sum(axis=2)
        some = np.flatnonzero(bounded[active])
        weights[some] += targets[active[some]].log_inside(draws[some])
        times = np.cumsum(private.standard_exponential((len(active), count)), axis=1)
        times += time[active, None]
        scores = np.log(times) - weights
        winner = scores.argmin(axis=1)
        score = scores[np.arange(len(active)), winner]
        better = score < best[active]
        indices[active[better]] = made + winner[better]
        best[active] = np.minimum(score, best[active])
        time[active] = times[:, -1]
        made += count
        active = active[np.log(time[active]) - bound[active] < best[active]]
    return indices


def _draws(random: SharedRandom, blocks: list[Ints], indices: list[Ints], elements: int) -> Array:
    """The draws (elements,) that win."""
    values = np.zeros(elements + 1, np.float32)
    for block, index in zip(blocks, indices, strict=True):
        rows = (block[:, 0] << _INDEX_BITS) + index
        values[block] = random.normals(0, rows, block.shape[1])
    return values[:-1]
