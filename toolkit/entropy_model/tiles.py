"""Pieces of a picture that are worked on one after another, with margins that keep them exact."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.entropy_model.base import Size, State

Span = tuple[int, int]
"""First pixel and the one behind the last, along one side."""


@dataclass(frozen=True)
class Tile:
    """A piece of a padded picture: ``inner`` is what counts, ``outer`` has margins around it."""

    size: Size
    """Of the padded picture."""
    outer: tuple[Span, Span]
    """Rows and columns, in pixels."""
    inner: tuple[Span, Span]

    @property
    def outer_size(self) -> Size:
        """Of the piece with its margins."""
        return Size(self.size.batch, *(stop - start for start, stop in self.outer))

    def crop(self, tensor: Tensor) -> Tensor:
        """The piece with its margins of a map (B, C, h, w) at any stride: a view."""
        return tensor[self._slices(tensor, self.outer, (0, 0), self.size)]

    def crop_all(self, state: State) -> State:
        """``crop`` of every map."""
        return tuple(self.crop(tensor) for tensor in state)

    def count(self, cropped: Tensor) -> Tensor:
        """What counts of a map that was cropped, or made of cropped ones: a view."""
        starts = (self.outer[0][0], self.outer[1][0])
        return cropped[self._slices(cropped, self.inner, starts, self.outer_size)]

    @property
    def whole(self) -> bool:
        """Whether it is the whole picture."""
        return self.outer_size == self.size

    def within(self, wider: Tile) -> Tile:
        """This tile as one of the piece that is another one with its margins."""
        outer, inner = (
            tuple((a - start, b - start) for (a, b), (start, _) in zip(s, wider.outer, strict=True))
            for s in (self.outer, self.inner)
        )
        return Tile(wider.outer_size, (outer[0], outer[1]), (inner[0], inner[1]))

    def shifted(self, by: tuple[Span, Span]) -> tuple[Span, Span]:
        """Rows and columns, with margins, where the picture is itself the piece ``by`` of one."""
        (top, bottom), (left, right) = self.outer
        (y, _), (x, _) = by
        return (top + y, bottom + y), (left + x, right + x)

    def place(self, tensor: Tensor) -> Tensor:
        """Where what counts of this tile is in a map of the whole picture: a view."""
        return tensor[self._slices(tensor, self.inner, (0, 0), self.size)]

    def room(self, cropped: Tensor) -> Tensor:
        """A map of the whole picture, not filled, at the stride and with the channels of a piece
        (B, C, h, w) with its margins."""
        batch, channels, rows, columns = cropped.shape
        outer = self.outer_size
        sides = (self.size.height * rows // outer.height, self.size.width * columns // outer.width)
        return torch.empty(batch, channels, *sides, dtype=cropped.dtype, device=cropped.device)

    def _slices(
        self, tensor: Tensor, spans: tuple[Span, Span], starts: tuple[int, int], size: Size
    ) -> tuple[slice, ...]:
        sides = ((size.height, tensor.shape[2]), (size.width, tensor.shape[3]))
        return (
            slice(None),
            slice(None),
            *(
                slice((first - start) * cells // side, -(-(last - start) * cells // side))
                for (first, last), start, (side, cells) in zip(spans, starts, sides, strict=True)
            ),
        )


def tiles(size: Size, stride: int, tile: int, margin: int) -> Iterator[Tile]:
    """Tiles of about equal sides of at most ``tile`` pixels that cover a padded picture.

    Arguments:
        stride: Tiles begin and end at its multiples.
        margin: Pixels around each that it depends on; rounded up to a multiple of ``stride``.
    """
    beyond = -(-margin // stride) * stride
    rows, columns = (
        [
            ((max(0, a - beyond), min(side, b + beyond)), (a, b))
            for a, b in _edges(side, stride, tile)
        ]
        for side in (size.height, size.width)
    )
    for (outer_y, inner_y), (outer_x, inner_x) in itertools.product(rows, columns):
        yield Tile(size, (outer_y, outer_x), (inner_y, inner_x))


def whole_tile(size: Size) -> Tile:
    """The only tile of a picture that is one."""
    spans = (0, size.height), (0, size.width)
    return Tile(size, spans, spans)


def trim() -> None:
    """Give memory that was freed back to the system, where the C library keeps it: glibc does, in
    pieces between what is kept, after a few large tiles half a gigabyte."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _edges(side: int, stride: int, tile: int) -> list[Span]:
    cells = side // stride
    count = -(-side // tile)
    edges = [stride * (i * cells // count) for i in range(count + 1)]
    return [(a, b) for a, b in itertools.pairwise(edges) if b > a]


def gathered(pieces: Iterator[tuple[Tile, State]]) -> State:
    """Maps of the whole picture from those of its tiles with their margins."""
    maps: State = ()
    for tile, found in pieces:
        if tile.whole:
            return found
        maps = maps or tuple(tile.room(t) for t in found)
        for whole, t in zip(maps, found, strict=True):
            tile.place(whole).copy_(tile.count(t))
        del found, t
        trim()
    return maps
