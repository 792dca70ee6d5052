"""A ladder model at work on pictures: pixels to targets, samples to pixels."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from toolkit.codec.base import LatentLevel
from toolkit.entropy_model.base import LadderModel, Level, Size, State
from toolkit.errors import InputError
from toolkit.format.errors import BadStream
from toolkit.sampling.ladder import Target, posterior_sample

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels
    from toolkit.entropy_model.refinement import EncoderRefinement
    from toolkit.options import Options
    from toolkit.plugin.specs import EntropyModelSpec
    from toolkit.sampling.contract import Array
    from toolkit.sampling.ladder import DecodeLadder, EncodeLadder

SMALLEST_R = 1e-6
T = TypeVar("T")


@cache
def load_network(
    spec: EntropyModelSpec, path: Path, precision: str, encoder: Options | None = None
) -> LadderNetwork:
    """The network of a weights file of this model.

    Arguments:
        encoder: The model's encoder options; None: their defaults.

    Raises what ``load_weights`` does, and UsageError for weights of another model.
    """
    model = load_model(spec, path)
    assert isinstance(model, LadderModel)
    if encoder is not None:
        model.encoder = encoder
    return LadderNetwork(model.double() if precision == "float64" else model, precision)


def load_model(spec: EntropyModelSpec, path: Path, ignore: tuple[str, ...] = ()) -> Any:
    """The module of a weights file, ready to code.

    Arguments:
        ignore: Beginnings of names of tensors that the module has no place for.

    Raises what ``load_weights`` does, and UsageError for weights of another model.
    """
    from toolkit.errors import UsageError
    from toolkit.format.weights import load_weights
    from toolkit.options import parse_options

    weights = load_weights(path)
    if weights.model != spec.name:
        raise UsageError(f"{path}: weights of model '{weights.model}', not of '{spec.name}'")
    cls = spec.loaded
    model = cls(parse_options(cls.options_class, weights.options, str(path)))
    tensors = {k: v for k, v in weights.tensors.items() if not k.startswith(ignore or "\0")}
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from None
    return model.eval().requires_grad_(False)


def encoder_dtype() -> torch.dtype:
    """What only an encoder computes in: bfloat16 where the processor multiplies in it, else
    float32. Decided by what it has, not by a stopwatch, so that a file comes out the same every
    time."""
    has = torch.cpu.get_capabilities()
    return torch.bfloat16 if has.get("avx512_bf16") or has.get("amx_bf16") else torch.float32


def arithmetic(dtype: torch.dtype) -> contextlib.AbstractContextManager[Any]:
    """Convolutions and matrix products of float32 tensors in ``dtype``."""
    return torch.autocast("cpu", dtype, enabled=dtype != torch.float32)


class LadderNetwork:
    """One model at one precision. Images are uint8 (H, W, 3) of any size from 1x1."""

    def __init__(self, model: LadderModel, precision: str = "float32") -> None:
        self.model = model
        self.dtype = torch.float64 if precision == "float64" else torch.float32
        self.products = torch.bfloat16 if precision == "bfloat16" else torch.float32
        model.encoder_arithmetic = lambda: arithmetic(encoder_dtype())

    # -- pictures ----------------------------------------------------------------

    def padded(self, height: int, width: int) -> Size:
        """The picture that the model sees of one of this size."""
        stride, least = self.model.stride, self.model.least_side
        sides = (max(least, -(-side // stride) * stride) for side in (height, width))
        return Size(1, *sides)

    def image(self, pixels: Pixels) -> Tensor:
        """(1, 3, H, W) in [0, 1], mirrored outwards at the right and the bottom to the padded
        sides."""
        height, width = pixels.shape[:2]
        _, rows, columns = self.padded(height, width)
        pads = ((0, rows - height), (0, columns - width), (0, 0))
        mirrored = np.pad(pixels, pads, mode="symmetric").transpose(2, 0, 1)
        return self._tensor(mirrored.astype(np.float32) / 255)

    def _tensor(self, values: Array) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(values)).to(self.dtype)[None]
        return tensor.contiguous(memory_format=torch.channels_last)

    def _rate(self, rate: float) -> Tensor:
        return torch.tensor([rate], dtype=self.dtype)

    def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        with torch.inference_mode(), arithmetic(self.products):
            return function(*arguments)

    def _pixels(self, state: State, rate: Tensor, height: int, width: int) -> Pixels:
        image = self._call(self.model.reconstruct, state, rate)[0, :, :height, :width]
        if not bool(torch.isfinite(image).all()):
            raise BadStream("what the network makes of these latents isn't finite")
        pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8)
        return pixels.permute(1, 2, 0).contiguous().numpy()

    # -- ladders -----------------------------------------------------------------

    def encode(
        self, pixels: Pixels, rate: float, refinement: EncoderRefinement | None = None
    ) -> EncodeLadder:
        """Targets of each level given the samples of those above, refined for this picture where
        there is a ``refinement``; in the end, what makes the pixels."""
        model, (height, width) = self.model, pixels.shape[:2]
        x, at = self.image(pixels), self._rate(rate)
        size = Size(1, x.shape[2], x.shape[3])
        with torch.inference_mode(), arithmetic(encoder_dtype()):
            features = model.analyse(x, at)
        if refinement is not None:
            refinement.begin(model, x, (height, width), at, features)
        state = self._call(model.start, size, at)
        for index in range(model.depth):
            level = self._call(model.level, index, state, features, at)
            assert level.posterior is not None
            d, log_r = level.posterior
            if refinement is not None:
                d = refinement.level(index, state, level)
            c = yield _target(model.name(index), d, log_r)
            z = level.latent(self._tensor(c))
            state = self._call(model.descend, index, state, z, at)
        return lambda: self._pixels(state, at, height, width)

    def decode(
        self, height: int, width: int, rate: float, levels: int | None = None
    ) -> DecodeLadder:
        """Shape of each level, top first; in the end the pixels (height, width, 3).

        Arguments:
            levels: How many are asked for; those below are taken at the means of their priors.
        """
        model, at = self.model, self._rate(rate)
        state = self._call(model.start, self.padded(height, width), at)
        for index in range(model.depth):
            level = self._call(model.level, index, state, None, at)
            z = level.prior.mean
            if levels is None or index < levels:
                channels, rows, columns = z.shape[1:]
                c = yield model.name(index), (channels, rows, columns)
                z = level.latent(self._tensor(c))
            state = self._call(model.descend, index, state, z, at)
        return self._pixels(state, at, height, width)

    def levels(
        self,
        pixels: Pixels,
        rate: float,
        seed: int,
        refinement: EncoderRefinement | None = None,
    ) -> list[LatentLevel]:
        """Prior, posterior and a plain sample of each level, in the network's units."""
        samples: list[Array] = []
        targets: list[Target] = []
        ladder = self.encode(pixels, rate, refinement)
        with contextlib.suppress(StopIteration):
            target = next(ladder)
            while True:
                targets.append(target)
                samples.append(posterior_sample(target, seed, len(samples)))
                target = ladder.send(samples[-1])
        priors: list[Level] = []
        at = self._rate(rate)
        state = self._call(self.model.start, self.padded(*pixels.shape[:2]), at)
        for index, c in enumerate(samples):
            level = self._call(self.model.level, index, state, None, at)
            priors.append(level)
            z = level.latent(self._tensor(c))
            if index + 1 < len(samples):
                state = self._call(self.model.descend, index, state, z, at)
        return [_level(*found) for found in zip(targets, priors, samples, strict=True)]


def _target(name: str, d: Tensor, log_r: Tensor) -> Target:
    if not bool(d.isfinite().all() and log_r.isfinite().all()):
        raise InputError(f"these weights can't code this picture: {name} isn't finite")
    r = torch.exp(log_r).clamp_min(SMALLEST_R)
    return Target(name, d[0].float().contiguous().numpy(), r[0].float().contiguous().numpy())


def _level(target: Target, level: Level, c: Array) -> LatentLevel:
    mean = level.prior.mean[0].float().numpy()
    scale = level.prior.log_scale[0].float().exp().numpy()
    return LatentLevel(
        target.name, mean, scale, mean + scale * target.d, scale * target.r, mean + scale * c
    )
