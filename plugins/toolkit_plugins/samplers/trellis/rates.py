"""Rates of a level's cells: bits that each latent element sends, from a number a channel and tile.

A level is cut into square tiles of positions; a cell is what one channel has in one tile. Were
its latents Gaussian of variance 2^x in units of the noise that is allowed, they would take
``1/2 log2(1 + 2^x)`` bits each (Cover and Thomas, "Elements of Information Theory", section
10.3). So x is sent in whole octaves, as the sum of the channel's and the tile's: where the picture
is flat, channels of low rate fall silent, and those of high rate lose a few bits each. Against
one rate a channel it cuts the trellis's J by a tenth in textures and by half in pictures with
smooth parts; finer steps bring nothing, since the search moves bits between neighbours anyway.

In layout 2 cells of at most ``QUIET`` octaves, a fiftieth of a bit an element, aren't coded: their
values are 0, the prior's mean. For a target of variance v and d^2 = 1 - v on average that loses
``1/2 (u - ln(1 + u)) ~ u^2 / 4`` nats, u = 1/v - 1, of about u / 2 that it holds: next to nothing,
where a draw of the prior would lose as much as it holds, and a search would look at each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from toolkit.format.errors import BadStream
from toolkit.sampling.coding.bits import BitReader, BitWriter, Ints
from toolkit_plugins.samplers.trellis.viterbi import RATE_BITS

LOWEST, HIGHEST = -24, 20
"""Octaves of a cell, and of a channel or tile by itself."""
FINEST = 2
"""Exponent of the smallest tiles that are chosen."""
WORTH = 400.0
"""Bits of KL that a tile must hold: it takes two or three to say its rate."""
WORTH_OF_GUESSED = 800.0
"""The same where the rates of elements are guessed and only errors are left to say."""
QUIET = -5
"""Octaves of the cells that layout 2 doesn't code."""
_ROUNDS = 10
_EXPONENT_FIELD = 4
LARGEST_EXPONENT = (1 << _EXPONENT_FIELD) - 1
_OCTAVE_FIELD = 6
_RICE_FIELD = 3
_LONGEST_STEP = HIGHEST - LOWEST


@cache
def table() -> Ints:
    """``1/2 log2(1 + 2^x)`` for x from ``LOWEST`` to ``HIGHEST``, in units of 2^-24 bits."""
    return exact_bits(1)


def exact_bits(steps: int) -> Ints:
    """``1/2 log2(1 + 2^x)`` for x from ``LOWEST`` to ``HIGHEST`` in steps of 1 / ``steps``, in
    units of 2^-24 bits."""
    with localcontext(prec=40):  # decimal's logarithms are the same on every machine
        unit, two = Decimal(2**RATE_BITS) / 2, Decimal(2)
        places = range(LOWEST * steps, HIGHEST * steps + 1)
        exact = [(1 + two ** (Decimal(x) / steps)).ln() / two.ln() * unit for x in places]
        return np.array([int(value.to_integral_value()) for value in exact], np.int64)


@dataclass(frozen=True)
class Profile:
    """What is sent about the rates of a level of shape (C, H, W)."""

    shape: tuple[int, int, int]
    used: NDArray[np.bool_]
    """Channels (C) that have a rate at all."""
    channels: Ints
    """Their octaves, (C)."""
    exponent: int
    """A tile has 2^exponent positions a side."""
    tiles: Ints
    """Octaves of the tiles, (T), in raster order."""
    layout: int = 1
    """Of the stream."""

    def coded(self) -> NDArray[np.bool_]:
        """Cells (C, T) that are coded; in layout 1, all."""
        if self.layout == 1:
            return np.ones((len(self.used), len(self.tiles)), bool)
        return self.used[:, None] & (self.channels[:, None] + self.tiles > QUIET)

    def cells(self) -> Ints:
        """Rates of the cells (C, T), in units of 2^-24 bits an element."""
        octaves = np.clip(self.channels[:, None] + self.tiles, LOWEST, HIGHEST)
        return np.where(self.used[:, None] & self.coded(), table()[octaves - LOWEST], 0)

    def tile_of(self) -> Ints:
        """Tile of each position, (H W)."""
        return tile_of_positions(self.shape, self.exponent)

    @property
    def members(self) -> NDArray[np.int64] | None:
        """Elements that are coded, flat indices, increasing; None for all."""
        coded = self.coded()
        return None if coded.all() else np.flatnonzero(coded[:, self.tile_of()])

    @property
    def codes_any(self) -> bool:
        """Whether any channel has a rate."""
        return bool(self.used.any())

    def rates(self, scale: int, places: int) -> Rates:
        """Multiplied by ``scale 2^-places``."""
        return Rates(self.cells() * scale >> places, self.tile_of())

    def sent_bits(self) -> float:
        """Of all elements at scale 1."""
        count = np.bincount(self.tile_of(), minlength=len(self.tiles))
        return int((self.cells() @ count).sum()) * 2.0**-RATE_BITS

    def write(self, out: BitWriter) -> None:
        """Used channels, their octaves, tiles by their neighbours.

        Channels may be sorted by their rates (a model's export sorts them), or in any order:
        what is used, and the octaves, take whichever of two forms is shorter.
        """
        count = int(self.used.sum())
        first = bool(self.used[:count].all())
        out.write(first, 1)
        if first:
            out.gamma(count)
        else:
            out.write(self.used, 1)
        octaves = self.channels[self.used]
        middle = int(np.median(octaves)) if count else 0
        steps = np.diff(octaves, prepend=octaves[:1])
        sorted_ = _rice(steps)[0] < _rice(octaves - middle)[0]
        out.write(sorted_, 1)
        out.write((int(octaves[0]) if sorted_ else middle) - LOWEST, _OCTAVE_FIELD)
        write_signed(out, steps if sorted_ else octaves - middle)
        out.write(self.exponent, _EXPONENT_FIELD)
        tiles_written(out, self.tiles, self.shape, self.exponent)

    @classmethod
    def read(cls, reader: BitReader, shape: tuple[int, int, int], layout: int = 1) -> Profile:
        """Raises BadStream."""
        if reader.number(1):
            used = np.arange(shape[0]) < int(reader.gamma(1)[0])
        else:
            used = reader.read(1, shape[0]).astype(bool)
        sorted_, start = reader.number(1), reader.number(_OCTAVE_FIELD) + LOWEST
        steps = read_signed(reader, int(used.sum()))
        channels = np.zeros(shape[0], np.int64)
        channels[used] = start + (np.cumsum(steps) if sorted_ else steps)
        exponent = reader.number(_EXPONENT_FIELD)
        tiles = tiles_read(reader, shape, exponent)
        for octaves in (channels, tiles):
            if octaves.min() < LOWEST or octaves.max() > HIGHEST:
                raise BadStream("trellis: a rate is off the scale")
        return cls(shape, used, channels, exponent, tiles, layout)


class ElementRates(Protocol):
    """Rates of a level's elements, in units of 2^-24 bits."""

    def of(self, elements: Ints) -> Ints:
        """Rates of elements, flat indices."""
        ...


@dataclass(frozen=True)
class Rates:
    """``ElementRates`` of cells."""

    cells: Ints
    """(C, T)"""
    tile_of: Ints
    """Tile of each position, (H W)."""

    def of(self, elements: Ints) -> Ints:
        """See ``ElementRates.of``."""
        channels, places = np.divmod(elements, len(self.tile_of))
        return self.cells[channels, self.tile_of[places]]


def choose_profile(
    bits: NDArray[np.float64],
    exponent: int,
    shape: tuple[int, int, int],
    least: float,
    layout: int = 1,
) -> Profile:
    """The profile for KL divergences of cells (C, T), bits, with tiles of that exponent.

    Octaves are such that every channel's and every tile's sum comes out as it is; they are found
    by Newton steps on either in turn. Channels with less than ``least`` bits get no rate.
    """
    count = np.bincount(tile_of_positions(shape, exponent), minlength=bits.shape[1]).astype(float)
    used = bits.sum(axis=1) >= least
    channels, tiles = np.zeros(len(bits)), np.zeros(bits.shape[1])
    if used.any():
        wanted = bits[used]
        mean = wanted.sum(axis=1) / count.sum()
        v = np.log2(np.maximum(4.0 ** np.minimum(mean, 12) - 1, 2.0**LOWEST))
        u = np.zeros(bits.shape[1])
        for _ in range(_ROUNDS):
            u = _newton(u, v[:, None] + u, count, wanted.sum(axis=0), 0)
            v = _newton(v, v[:, None] + u, count, wanted.sum(axis=1), 1)
        middle = np.rint(np.average(u, weights=count))
        tiles, channels[used] = u - middle, v + middle
    profile = Profile(
        shape=shape,
        used=used,
        channels=np.clip(np.rint(channels), LOWEST, HIGHEST).astype(np.int64),
        exponent=exponent,
        tiles=np.clip(np.rint(tiles), LOWEST, HIGHEST).astype(np.int64),
        layout=layout,
    )
    return profile if layout == 1 else _without_quiet(profile)


def _without_quiet(profile: Profile) -> Profile:
    """The same cells coded at the same rates, with fewer bits to say so: channels that are quiet
    everywhere aren't used, and tiles where all are go no lower than it takes."""
    used = profile.coded().any(axis=1)
    channels = np.where(used, profile.channels, 0)
    loudest = int(channels[used].max()) if used.any() else 0
    tiles = np.maximum(profile.tiles, QUIET - loudest) if used.any() else 0 * profile.tiles
    return replace(profile, used=used, channels=channels, tiles=np.clip(tiles, LOWEST, HIGHEST))


def choose_exponent(bits: float, shape: tuple[int, int, int], *, guessed: bool = False) -> int:
    """Of the smallest tiles that have ``WORTH`` bits each, on average; else of a single one, or,
    where a side has more positions than the largest tile, of the largest."""
    exponent, worth = FINEST, WORTH_OF_GUESSED if guessed else WORTH
    while exponent < LARGEST_EXPONENT and (tiles := tile_count(shape, exponent)) > 1:
        if bits >= worth * tiles:
            break
        exponent += 1
    return exponent


def tile_count(shape: tuple[int, int, int], exponent: int) -> int:
    """How many tiles a level has."""
    rows, columns = grid_of(shape[1:], exponent)
    return rows * columns


def sums_of_tiles(values: NDArray[np.float64], exponent: int) -> NDArray[np.float64]:
    """Sums (..., H', W') over tiles of values (..., H, W)."""
    for axis in (-2, -1):
        starts = np.arange(0, values.shape[axis], 1 << exponent)
        values = np.add.reduceat(values, starts, axis=axis)
    return values


def _newton(
    at: NDArray[np.float64],
    octaves: NDArray[np.float64],
    count: NDArray[np.float64],
    wanted: NDArray[np.float64],
    axis: int,
) -> NDArray[np.float64]:
    power = np.exp2(np.clip(octaves, LOWEST, HIGHEST))
    sums = (0.5 * np.log2(1 + power) * count).sum(axis=axis)
    slope = (0.5 * power / (1 + power) * count).sum(axis=axis)
    step = np.clip((wanted - sums) / np.maximum(slope, 1e-9), -3, 3)
    return np.clip(at + step, LOWEST, HIGHEST)


def grid_of(sides: tuple[int, ...], exponent: int) -> tuple[int, int]:
    """Rows and columns of tiles of that exponent on a map of these sides."""
    return -(-sides[0] >> exponent), -(-sides[1] >> exponent)


def tile_of_positions(shape: tuple[int, int, int], exponent: int) -> Ints:
    """Tile of each position, (H W)."""
    rows, columns = np.arange(shape[1]) >> exponent, np.arange(shape[2]) >> exponent
    return np.add.outer(rows * grid_of(shape[1:], exponent)[1], columns).ravel()


def tiles_written(out: BitWriter, tiles: Ints, shape: tuple[int, int, int], exponent: int) -> None:
    """Octaves of tiles by their neighbours; nothing for a single one."""
    if len(tiles) > 1:
        grid = tiles.reshape(grid_of(shape[1:], exponent))
        write_signed(out, (grid - _expected(grid)).ravel())


def tiles_read(reader: BitReader, shape: tuple[int, int, int], exponent: int) -> Ints:
    """What ``tiles_written`` wrote, (T)."""
    rows, columns = grid_of(shape[1:], exponent)
    tiles = np.zeros((rows, columns), np.int64)
    if rows * columns > 1:
        steps = read_signed(reader, rows * columns).reshape(rows, columns)
        for i, j in np.ndindex(rows, columns):
            tiles[i, j] = steps[i, j] + _expected_at(tiles, i, j)
    return tiles.ravel()


def _expected(grid: Ints) -> Ints:
    return np.array(
        [[_expected_at(grid, i, j) for j in range(grid.shape[1])] for i in range(len(grid))]
    )


def _expected_at(grid: Ints, i: int, j: int) -> int:
    """Between the tile above and that on the left; 0 for the first."""
    if i == 0 or j == 0:
        return int(grid[i, j - 1] if j else grid[i - 1, j] if i else 0)
    return int(grid[i - 1, j] + grid[i, j - 1]) >> 1


def write_signed(out: BitWriter, values: Ints) -> None:
    """Rice's code of small numbers of either sign."""
    k = _rice(values)[1]
    folded = _folded(values)
    out.write(k, _RICE_FIELD)
    out.unary(folded >> k)
    out.write(folded & ((1 << k) - 1), k)


def _rice(values: Ints) -> tuple[int, int]:
    """Bits of the shortest code, and its parameter."""
    folded = _folded(values)
    return min((int((folded >> k).sum() + k * len(folded)), k) for k in range(1 << _RICE_FIELD))


def _folded(values: Ints) -> Ints:
    return np.where(values < 0, -2 * values - 1, 2 * values)


def read_signed(reader: BitReader, count: int) -> Ints:
    """What ``write_signed`` wrote. Raises BadStream."""
    k = reader.number(_RICE_FIELD)
    folded = reader.unary(count) << k
    folded |= reader.read(k, count)
    if folded.max(initial=0) > 2 * _LONGEST_STEP:
        raise BadStream("trellis: a rate is off the scale")
    return np.where(folded & 1, -(folded + 1 >> 1), folded >> 1)
