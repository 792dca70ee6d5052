"""Down a model's ladder for one picture, in tiles where the picture is larger than one.

Of what the models compute only what the next steps need is kept whole: the state and the sample
of the level above (``Walk.state`` goes down from there for a piece at a time), and the features.
A model that sends little of upper levels, as the PLN does, so keeps hardly more than the level
that is coded. A picture that is a tile by itself is computed at once, everything once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from toolkit.entropy_model.base import Gaussian, LadderModel, Level, Size, State
from toolkit.entropy_model.tiles import Span, Tile, gathered, tiles

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels
    from toolkit.sampling.contract import Array

TILE = 1024
"""Pixels a side: about 0.3 GiB of activations in float32."""
T = TypeVar("T")


class Call(Protocol):
    """Runs a step of a model in the arithmetic that is wanted, without gradients."""

    def __call__(self, function: Callable[..., T], *arguments: object) -> T: ...


class Walk:
    """A model's way down for one picture at one rate; begins above the top level.

    Arguments:
        size: Of the padded picture.
        rate: (1,)
        call: Runs the model's methods.
    """

    def __init__(self, model: LadderModel, size: Size, rate: Tensor, call: Call) -> None:
        self.model, self.size, self.rate, self._call = model, size, rate, call
        self.index = 0
        self._above: State = call(model.start, size, rate)
        self._z: Tensor | None = None
        self._kept: tuple[State, Level] | None = None  # of a picture that is one tile
        self._shapes: list[tuple[int, int, int]] = []

    def tiles(self, margin: int | None = None, size: Size | None = None) -> Iterator[Tile]:
        """Tiles with margins for one of the model's steps, or others, one after another.

        Arguments:
            size: Of a piece, if not of the whole picture.
        """
        beyond = self.model.reach if margin is None else margin
        return tiles(size or self.size, self.model.stride, TILE, beyond)

    @property
    def at_once(self) -> bool:
        """Whether the picture is one tile."""
        return max(self.size.height, self.size.width) <= TILE

    def state(self, tile: Tile) -> State:
        """What is known above level ``index``, of a tile with its margins."""
        state = tile.crop_all(self._above)
        if self._z is None:
            return state
        return self._call(self.model.descend, self.index - 1, state, tile.crop(self._z), self.rate)

    def level(self, tile: Tile, features: State | None = None) -> tuple[State, Level]:
        """The state and level ``index`` of a tile with its margins, ``features`` being its."""
        if tile.whole and self._kept is not None:
            return self._kept
        state = self.state(tile)
        found = state, self._call(self.model.level, self.index, state, features, self.rate)
        if tile.whole and self.at_once:
            self._kept = found
        return found

    def prior(self) -> Gaussian:
        """Of level ``index``, of the whole picture."""
        return Gaussian(*gathered((t, self.level(t)[1].prior) for t in self.tiles()))

    def posteriors(self, features: State) -> Iterator[tuple[Tile, Gaussian]]:
        """Of level ``index``, in units of its prior, of each tile with its margins."""
        for tile in self.tiles():
            posterior = self.level(tile, tile.crop_all(features))[1].posterior
            assert posterior is not None
            yield tile, posterior

    def shape(self) -> tuple[int, int, int]:
        """(C, h, w) of level ``index``."""
        if self.at_once:
            channels, rows, columns = self.level(next(self.tiles()))[1].prior.mean.shape[1:]
            return channels, rows, columns
        self._shapes = self._shapes or self.model.shapes(self.size)
        return self._shapes[self.index]

    def descend(self, c: Array | None) -> None:
        """Past level ``index``, whose sample in units of its prior (C, h, w) is ``c``; None: at
        the mean of its prior."""
        *above, self._z = gathered((tile, self._sampled(tile, c)) for tile in self.tiles())
        self._above = tuple(above)
        self._kept = None
        self.index += 1

    def _sampled(self, tile: Tile, c: Array | None) -> State:
        """The state above level ``index`` and its latents, of a tile with its margins."""
        state, level = self.level(tile)
        if c is None:
            return (*state, level.prior.mean)
        whole = torch.from_numpy(np.ascontiguousarray(c))[None]
        like = level.prior.mean
        values = tile.crop(whole).to(like.device, like.dtype)
        return (*state, level.latent(values.contiguous(memory_format=torch.channels_last)))

    def images(self, c: Array | None) -> Iterator[tuple[Tile, Tensor]]:
        """The picture in [0, 1], not clipped, of each tile without its margins, from the sample
        of the last level (as of ``descend``); nothing whole is kept on the way."""
        margin = self.model.reach_below(self.index)
        beyond = margin + self.model.reach
        for wide, tile in zip(self.tiles(beyond), self.tiles(margin), strict=True):
            inside = tile.within(wide)
            *above, z = inside.crop_all(self._sampled(wide, c))
            state = self._call(self.model.descend, self.index, tuple(above), z, self.rate)
            yield tile, tile.count(self._call(self.model.reconstruct, state, self.rate))


def mirrored(pixels: Pixels, spans: tuple[Span, Span]) -> Pixels:
    """Rows and columns of a picture (H, W, C) that its mirror image continues at the right and at
    the bottom, and the picture again, as far as is wanted."""
    for axis, ((start, stop), side) in enumerate(zip(spans, pixels.shape[:2], strict=True)):
        if stop <= side:
            pixels = pixels[(slice(None),) * axis + (slice(start, stop),)]
        else:
            place = np.arange(start, stop) % (2 * side)
            pixels = pixels.take(np.minimum(place, 2 * side - 1 - place), axis)
    return pixels
