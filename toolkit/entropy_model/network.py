"""A ladder model at work on pictures: pixels to targets, samples to pixels."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from toolkit.codec.base import LatentLevel
from toolkit.deterministic import deterministic_wanted
from toolkit.entropy_model.base import Gaussian, LadderModel, Size, State
from toolkit.entropy_model.tiles import Span, Tile, gathered, trim, whole_tile
from toolkit.entropy_model.walk import Walk, mirrored
from toolkit.errors import InputError, UsageError
from toolkit.format.errors import BadStream
from toolkit.sampling.ladder import Target, posterior_sample
from toolkit.threads import survive_forks

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels
    from toolkit.entropy_model.refinement import EncoderRefinement
    from toolkit.options import Options
    from toolkit.plugin.specs import EntropyModelSpec
    from toolkit.sampling.contract import Array
    from toolkit.sampling.ladder import DecodeLadder, EncodeLadder

SMALLEST_R = 1e-6
_PROCESS = 7 * 2**27
"""Bytes of a process with its libraries, weights, and a tile on its way through the networks."""
_PIXEL = 3
"""Bytes a pixel: the picture."""
_ENCODED, _DECODED = 14, 6
"""Bytes a latent element. Measured with ``toolkit bench sizes``: docs/reliability.md."""
_OFFSET, _REFINED = 2, 200
"""Besides, where the posterior is refined, a latent element of the picture, and of the largest of
the pieces in which that is done."""
T = TypeVar("T")


@lru_cache(maxsize=8)
def load_network(
    spec: EntropyModelSpec,
    path: Path,
    precision: str,
    encoder: Options | None = None,
    device: str = "cpu",
) -> LadderNetwork:
    """The network of a weights file of this model; the same object for the same arguments.

    Arguments:
        spec: The model's descriptor.
        path: The weights file.
        precision: ``float32``, ``float64`` or ``bfloat16``: what the networks compute in.
        encoder: The model's encoder options; None: their defaults.
        device: Where it runs, as torch names it.

    Raises what ``load_weights`` does, and UsageError for weights of another model and for a
    precision that the device doesn't have.
    """
    if (device, precision) == ("mps", "float64"):
        raise UsageError("precision float64: no such arithmetic on mps")
    model = load_model(spec, path).to(device)
    assert isinstance(model, LadderModel)
    if encoder is not None:
        model.encoder = encoder
    return LadderNetwork(model.double() if precision == "float64" else model, precision)


def load_model(spec: EntropyModelSpec, path: Path) -> Any:
    """The module of a weights file, ready to code.

    Raises what ``load_weights`` does, and UsageError for weights of another model.
    """
    from toolkit.format.weights import load_weights
    from toolkit.options import parse_options

    survive_forks()
    weights = load_weights(path)
    if weights.model != spec.name:
        raise UsageError(f"{path}: weights of model '{weights.model}', not of '{spec.name}'")
    cls = spec.loaded
    model = cls(parse_options(cls.options_class, weights.options, str(path)))
    try:
        model.load_state_dict(weights.tensors)
    except RuntimeError as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from None
    return model.eval().requires_grad_(False)


def encoder_dtype(device: str = "cpu") -> torch.dtype:
    """What only an encoder computes in: bfloat16 where the device multiplies in it, else
    float32, or float32 within ``deterministic``. Decided by what it has, not by a stopwatch, so
    that a file comes out the same every time."""
    if deterministic_wanted():
        return torch.float32
    if device != "cpu":
        fast = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    has = torch.cpu.get_capabilities()
    return torch.bfloat16 if has.get("avx512_bf16") or has.get("amx_bf16") else torch.float32


def arithmetic(dtype: torch.dtype, device: str = "cpu") -> contextlib.AbstractContextManager[Any]:
    """Convolutions and matrix products of float32 tensors in ``dtype``."""
    return torch.autocast(device, torch.bfloat16, enabled=dtype != torch.float32)


class LadderNetwork:
    """One model at one precision. Images are uint8 (H, W, 3) of any size from 1x1."""

    def __init__(self, model: LadderModel, precision: str = "float32") -> None:
        self.model = model
        self.device = next(model.parameters()).device.type
        self.dtype = torch.float64 if precision == "float64" else torch.float32
        self.products = torch.bfloat16 if precision == "bfloat16" else torch.float32
        model.encoder_arithmetic = self._encoder_arithmetic

    # -- pictures ----------------------------------------------------------------

    def padded(self, height: int, width: int) -> Size:
        """The picture that the model sees of one of this size, in pixels."""
        stride, least = self.model.stride, self.model.least_side
        sides = (-(-max(side, least) // stride) * stride for side in (height, width))
        return Size(1, *sides)

    def image(self, pixels: Pixels, spans: tuple[Span, Span] | None = None) -> Tensor:
        """(1, 3, h, w) in [0, 1]: these rows and columns of a picture that is mirrored outwards at
        the right and the bottom, or all of them up to the padded sides."""
        if spans is None:
            _, rows, columns = self.padded(*pixels.shape[:2])
            spans = (0, rows), (0, columns)
        return tensor_of(mirrored(pixels, spans), self.dtype).to(self.device)

    def _encoder_arithmetic(self) -> contextlib.AbstractContextManager[Any]:
        return arithmetic(encoder_dtype(self.device), self.device)

    def memory(
        self, height: int, width: int, *, encoding: bool = False, refined: bool = False
    ) -> int:
        """Bytes, about and from above, that a process holds when it codes or decodes a picture.

        Arguments:
            encoding: Whether it codes.
            refined: Whether it refines the posterior for the picture before.
        """
        size = self.padded(height, width)
        bytes_ = _PROCESS + _PIXEL * height * width
        bytes_ += (_ENCODED if encoding else _DECODED) * self._elements(size)
        if encoding and refined:
            from toolkit.entropy_model.refinement import largest_piece

            bytes_ += _OFFSET * self._elements(size)
            bytes_ += _REFINED * self._elements(largest_piece(self.model, size))
        return bytes_

    def _elements(self, size: Size) -> int:
        return sum(math.prod(shape) for shape in self.model.shapes(size))

    def _rate(self, rate: float) -> Tensor:
        return torch.tensor([rate], dtype=self.dtype, device=self.device)

    def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        with torch.inference_mode(), arithmetic(self.products, self.device):
            return function(*arguments)

    def _walk(self, height: int, width: int, rate: Tensor) -> Walk:
        return Walk(self.model, self.padded(height, width), rate, self._call)

    def _features(self, pixels: Pixels, walk: Walk, piece: Tile) -> State:
        """What the encoder knows of a piece of a picture with its margins."""

        def analysed(tile: Tile) -> State:
            x = self.image(pixels, tile.shifted(piece.outer))
            with torch.inference_mode(), self._encoder_arithmetic():
                return self.model.analyse(x, walk.rate)

        return gathered((tile, analysed(tile)) for tile in walk.tiles(size=piece.outer_size))

    # -- ladders -----------------------------------------------------------------

    def encode(
        self, pixels: Pixels, rate: float, refinement: EncoderRefinement | None = None
    ) -> EncodeLadder:
        """A picture's way down the ladder.

        Arguments:
            pixels: uint8 (H, W, 3).
            rate: In [0, 1].
            refinement: Of the posterior for this picture; None: as the networks say.

        Yields the target of each level, top first, and is sent its sample (C, h, w) in units of the
        level's prior. Returns a function that makes the pixels.

        Raises InputError where these weights make what isn't finite of the picture.
        """
        (height, width), at = pixels.shape[:2], self._rate(rate)
        walk = self._walk(height, width, at)
        features: State = ()
        if refinement is None:
            features = self._features(pixels, walk, whole_tile(walk.size))
        else:
            refinement.begin(walk, pixels, partial(self._features, pixels, walk))
        for index in range(self.model.depth):
            posteriors = walk.posteriors(features) if refinement is None else refinement.level(walk)
            target = _target(self.model.name(index), posteriors)
            del posteriors
            if index + 1 == self.model.depth:
                features = ()  # of a large picture, they take much
            c = yield target
            del target
            if index + 1 < self.model.depth:
                walk.descend(c)
        return lambda: self._pixels(walk, c, height, width)

    def decode(
        self, height: int, width: int, rate: float, levels: int | None = None
    ) -> DecodeLadder:
        """The way down the ladder of a file.

        Yields name and shape (C, h, w) of each level, top first, and is sent its sample in units of
        the level's prior. Returns the pixels, uint8 (height, width, 3).

        Arguments:
            height, width: Of the picture, in pixels.
            rate: In [0, 1].
            levels: How many are asked for; those below are taken at the means of their priors.

        Raises BadStream where what the samples make isn't finite.
        """
        walk, depth = self._walk(height, width, self._rate(rate)), self.model.depth
        for index in range(depth):
            c = None
            if levels is None or index < levels:
                c = yield self.model.name(index), walk.shape()
            if index + 1 < depth:
                walk.descend(c)
        return self._pixels(walk, c, height, width)

    def _pixels(self, walk: Walk, c: Array | None, height: int, width: int) -> Pixels:
        """The picture, from the sample of the last level."""
        pixels = np.empty((height, width, 3), np.uint8)
        for tile, image in walk.images(c):
            if not bool(torch.isfinite(image).all()):
                raise BadStream("what the network makes of these latents isn't finite")
            (top, bottom), (left, right) = tile.inner
            shown = (image.clamp(0, 1) * 255).round().to(torch.uint8)[0].permute(1, 2, 0)
            shown = shown[: height - top, : width - left]
            pixels[top:bottom, left:right] = shown.cpu().numpy()
            if not tile.whole:
                del image, shown
                trim()
        return pixels

    def levels(
        self,
        pixels: Pixels,
        rate: float,
        seed: int,
        refinement: EncoderRefinement | None = None,
    ) -> list[LatentLevel]:
        """Prior, posterior and a plain sample of each level, top first, in the network's units.

        Arguments:
            pixels: uint8 (H, W, 3).
            rate: In [0, 1].
            seed: Of the samples.
            refinement: As in ``encode``.
        """
        samples: list[Array] = []
        targets: list[Target] = []
        ladder = self.encode(pixels, rate, refinement)
        with contextlib.suppress(StopIteration):
            target = next(ladder)
            while True:
                targets.append(target)
                samples.append(posterior_sample(target, seed, len(samples)))
                target = ladder.send(samples[-1])
        priors: list[Gaussian] = []
        walk = self._walk(pixels.shape[0], pixels.shape[1], self._rate(rate))
        for index, c in enumerate(samples):
            priors.append(walk.prior())
            if index + 1 < len(samples):
                walk.descend(c)
        return [_level(*found) for found in zip(targets, priors, samples, strict=True)]


def tensor_of(pixels: Pixels, dtype: torch.dtype) -> Tensor:
    """(1, 3, H, W) in [0, 1] of a picture (H, W, 3)."""
    values = pixels.transpose(2, 0, 1).astype(np.float32) / 255
    tensor = torch.from_numpy(np.ascontiguousarray(values)).to(dtype)[None]
    return tensor.contiguous(memory_format=torch.channels_last)


def _target(name: str, pieces: Iterable[tuple[Tile, Gaussian]]) -> Target:
    """From the posteriors of tiles with their margins."""

    def checked(d: Tensor, log_r: Tensor) -> State:
        if not bool(d.isfinite().all() and log_r.isfinite().all()):
            raise InputError(f"these weights can't code this picture: {name} isn't finite")
        return d.float(), torch.exp(log_r).clamp_min(SMALLEST_R).float()

    d, r = gathered((tile, checked(*posterior)) for tile, posterior in pieces)
    return Target(name, d[0].cpu().contiguous().numpy(), r[0].cpu().contiguous().numpy())


def _level(target: Target, prior: Gaussian, c: Array) -> LatentLevel:
    mean = prior.mean[0].float().cpu().numpy()
    scale = prior.log_scale[0].float().exp().cpu().numpy()
    return LatentLevel(
        target.name, mean, scale, mean + scale * target.d, scale * target.r, mean + scale * c
    )
