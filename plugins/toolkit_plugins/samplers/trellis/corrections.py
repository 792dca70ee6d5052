"""Rates of elements that are guessed one by one: what layout 3 sends about them.

Where the rates' prediction (``toolkit.sampling.rate_prediction``) guesses how many octaves each
element takes, only what it is wrong about is left to say: whole octaves by which a channel, and a
tile, takes more or less. An element's octaves are the guess plus both; those of at most ``QUIET``
octaves aren't coded, as in layout 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from toolkit.format.errors import BadStream
from toolkit.sampling.coding.bits import BitReader, BitWriter, Ints
from toolkit.sampling.rate_prediction import STEPS, Ints8
from toolkit_plugins.samplers.trellis.rates import (
    HIGHEST,
    LARGEST_EXPONENT,
    LOWEST,
    QUIET,
    exact_bits,
    grid_of,
    read_signed,
    sums_of_tiles,
    tile_count,
    tile_of_positions,
    tiles_read,
    tiles_written,
    write_signed,
)
from toolkit_plugins.samplers.trellis.viterbi import RATE_BITS

FARTHEST = 8
"""Octaves by which a channel or tile is corrected, at most."""
_EXPONENT_FIELD = 4
_ROUNDS = 6
_STIFF = 128.0
"""Bits an octave: what holds the corrections of channels and tiles of few bits back."""


@cache
def fine_table() -> Ints:
    """``1/2 log2(1 + 2^x)`` for x from ``LOWEST`` to ``HIGHEST`` in steps of 1/8 octave, in units
    of 2^-24 bits."""
    return exact_bits(STEPS)


@dataclass(frozen=True)
class GuessedRates:
    """``ElementRates`` of elements that are guessed."""

    corrections: Corrections
    table: Ints
    """As ``fine_table``, scaled."""

    def of(self, elements: Ints) -> Ints:
        """See ``ElementRates.of``."""
        return self.table[self.corrections.octaves_of(elements) - LOWEST * STEPS]


@dataclass(frozen=True)
class Corrections:
    """What is sent about the rates of a level whose elements' rates are guessed."""

    guesses: Ints8
    """(C, H, W), in steps of 1/8 octave; not sent."""
    channels: Ints
    """Octaves of the channels, (C)."""
    exponent: int
    """A tile has 2^exponent positions a side."""
    tiles: Ints
    """Octaves of the tiles, (T), in raster order."""

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.guesses.shape
        return channels, height, width

    @cached_property
    def members(self) -> NDArray[np.int64]:
        """Elements that are coded, flat indices, increasing."""
        by_place = self.tiles[self.tile_of].reshape(self.shape[1:])
        least, size = QUIET * STEPS, self.guesses[0].size
        found = [
            np.flatnonzero(guess.astype(np.int16) + STEPS * (channel + by_place) > least) + k * size
            for k, (guess, channel) in enumerate(zip(self.guesses, self.channels, strict=True))
        ]
        return np.concatenate(found)

    @cached_property
    def tile_of(self) -> Ints:
        """Tile of each position, (H W)."""
        return tile_of_positions(self.shape, self.exponent)

    @property
    def codes_any(self) -> bool:
        """Whether any element is coded."""
        return len(self.members) > 0

    def octaves_of(self, elements: Ints) -> Ints:
        """Of elements, flat indices, in steps of 1/8."""
        channels, places = np.divmod(elements, len(self.tile_of))
        more = self.channels[channels] + self.tiles[self.tile_of[places]]
        octaves = self.guesses.reshape(-1)[elements] + STEPS * more
        return np.clip(octaves, LOWEST * STEPS, HIGHEST * STEPS)

    def rates(self, scale: int, places: int) -> GuessedRates:
        """Multiplied by ``scale 2^-places``."""
        return GuessedRates(self, fine_table() * scale >> places)

    def sent_bits(self) -> float:
        """Of all elements at scale 1."""
        return float(self.rates(1, 0).of(self.members).sum()) * 2.0**-RATE_BITS

    def write(self, out: BitWriter) -> None:
        """Channels, the tiles' size, tiles by their neighbours; a bit for each where all are 0."""
        out.write(int(self.channels.any()), 1)
        if self.channels.any():
            write_signed(out, self.channels)
        out.write(int(self.tiles.any()), 1)
        if self.tiles.any():
            out.write(self.exponent, _EXPONENT_FIELD)
            tiles_written(out, self.tiles, self.shape, self.exponent)

    @classmethod
    def read(cls, reader: BitReader, guesses: Ints8) -> Corrections:
        """Raises BadStream."""
        shape = guesses.shape
        channels, exponent = np.zeros(shape[0], np.int64), LARGEST_EXPONENT
        if reader.number(1):
            channels = read_signed(reader, shape[0])
        tiles = np.zeros(tile_count((shape[0], shape[1], shape[2]), exponent), np.int64)
        if reader.number(1):
            exponent = reader.number(_EXPONENT_FIELD)
            tiles = tiles_read(reader, (shape[0], shape[1], shape[2]), exponent)
        for octaves in (channels, tiles):
            if np.abs(octaves).max() > FARTHEST:
                raise BadStream("trellis: a rate is corrected by too much")
        return cls(guesses, channels, exponent, tiles)

    @classmethod
    def nothing(cls, guesses: Ints8) -> Corrections:
        """Those of a level of which nothing is coded."""
        silent = np.full_like(guesses, LOWEST * STEPS // 2)
        tiles = int(np.prod(grid_of(silent.shape[1:], LARGEST_EXPONENT)))
        zeros = np.zeros(len(guesses), np.int64), np.zeros(tiles, np.int64)
        return cls(silent, zeros[0], LARGEST_EXPONENT, zeros[1])


def choose_corrections(bits: NDArray[np.float64], exponent: int, guesses: Ints8) -> Corrections:
    """The corrections for KL divergences of cells (C, T), bits, with tiles of that exponent.

    They are such that every channel's and every tile's sum comes out as it is, found by Newton
    steps on either in turn, and held back where there is little to go by.
    """
    expected = _bits_by_octave(guesses, exponent)
    v, u = np.zeros(bits.shape[0]), np.zeros(bits.shape[1])
    for _ in range(_ROUNDS):
        if len(u) > 1:  # the only tile's correction is its channels'
            u = _newton(u, v[:, None] + u, expected, bits, 0)
        v = _newton(v, v[:, None] + u, expected, bits, 1)
    whole = [np.clip(np.rint(x), -FARTHEST, FARTHEST).astype(np.int64) for x in (v, u)]
    return Corrections(guesses, whole[0], exponent, whole[1])


def _bits_by_octave(guesses: Ints8, exponent: int) -> NDArray[np.float64]:
    """(2 FARTHEST + 1, C, T): bits of every cell with so many octaves more."""
    table = (fine_table() * 2.0**-RATE_BITS).astype(np.float32)
    last = len(table) - 1
    found = []
    for guess in guesses:
        at = guess.astype(np.int16) - LOWEST * STEPS
        cells = []
        for octaves in range(-FARTHEST, FARTHEST + 1):
            values = table[np.clip(at + octaves * STEPS, 0, last)]
            cells.append(sums_of_tiles(values, exponent).ravel())
        found.append(cells)
    return np.array(found, np.float64).transpose(1, 0, 2)


def _newton(
    at: NDArray[np.float64],
    octaves: NDArray[np.float64],
    expected: NDArray[np.float64],
    wanted: NDArray[np.float64],
    axis: int,
) -> NDArray[np.float64]:
    place = np.clip(octaves + FARTHEST, 0, 2 * FARTHEST - 1e-6)
    low = place.astype(np.int64)
    below = np.take_along_axis(expected, low[None], 0)[0]
    slopes = np.take_along_axis(expected, low[None] + 1, 0)[0] - below
    lacking = (wanted - below - (place - low) * slopes).sum(axis=axis) - _STIFF * at
    step = np.clip(lacking / (slopes.sum(axis=axis) + _STIFF), -2, 2)
    return np.clip(at + step, -FARTHEST, FARTHEST)
