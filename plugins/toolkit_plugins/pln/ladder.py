"""The PLN as a ladder of Gaussians: pixels to targets, samples to pixels."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from toolkit.codec.base import LatentLevel
from toolkit.errors import InputError
from toolkit.format.errors import BadStream
from toolkit.sampling.contract import Array
from toolkit.sampling.ladder import Target, posterior_sample
from toolkit_plugins.pln.model import PLN, product_of_gaussians

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels
    from toolkit.sampling.ladder import DecodeLadder, EncodeLadder, Shape
    from toolkit_plugins.pln.effort import Effort

SMALLEST_R = 1e-6
LEVELS = ("level2", "level1")
"""Top first, the order in which they are coded."""


def padded_side(side: int) -> int:
    """The side of the picture that the network sees."""
    return max(PLN.least_side, -(-side // PLN.stride) * PLN.stride)


def mirrored(pixels: Pixels) -> Pixels:
    """(H, W, 3) mirrored outwards at the right and the bottom to the padded sides."""
    height, width = pixels.shape[:2]
    pads = ((0, padded_side(height) - height), (0, padded_side(width) - width), (0, 0))
    return np.pad(pixels, pads, mode="symmetric")


def encoder_dtype() -> torch.dtype:
    """What only an encoder computes in: bfloat16 where the processor multiplies in it, else
    float32. Decided by what it has, not by a stopwatch, so that a file comes out the same every
    time."""
    has = torch.cpu.get_capabilities()
    return torch.bfloat16 if has.get("avx512_bf16") or has.get("amx_bf16") else torch.float32


def arithmetic(dtype: torch.dtype) -> contextlib.AbstractContextManager[Any]:
    """Convolutions and matrix products of float32 tensors in ``dtype``."""
    return torch.autocast("cpu", dtype, enabled=dtype != torch.float32)


class PLNLadder:
    """One network at one precision. Images are uint8 (H, W, 3) of any size from 1x1."""

    def __init__(self, model: PLN, precision: str = "float32") -> None:
        self.model = model
        self.dtype = torch.float64 if precision == "float64" else torch.float32
        self.products = torch.bfloat16 if precision == "bfloat16" else torch.float32

    def _call(self, function: Any, *tensors: Tensor, products: torch.dtype | None = None) -> Any:
        with torch.inference_mode(), arithmetic(products or self.products):
            return function(*tensors)

    def _blend(self, rate: float) -> Tensor:
        return self.model.blend(torch.tensor([rate], dtype=self.dtype))

    def _tensor(self, values: Array) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(values)).to(self.dtype)[None]
        return tensor.contiguous(memory_format=torch.channels_last)

    def _to_pixels(self, z1: Tensor, blend: Tensor, height: int, width: int) -> Pixels:
        image = self._call(self.model.reconstruct, z1, blend)[0, :, :height, :width]
        if not bool(torch.isfinite(image).all()):
            raise BadStream("what the network makes of these latents isn't finite")
        pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8)
        return pixels.permute(1, 2, 0).contiguous().numpy()

    def encode(self, pixels: Pixels, rate: float, effort: Effort | None = None) -> EncodeLadder:
        """Targets of level 2, then of level 1 given the z2 that was coded; both refined for
        this picture where there is an ``effort``."""
        height, width = pixels.shape[:2]
        blend = self._blend(rate)
        x = self._tensor(mirrored(pixels).transpose(2, 0, 1).astype(np.float32) / 255)
        products = encoder_dtype()
        mu_x, log_s_x = self._call(self.model.encode1, x, blend, products=products)
        d2, log_r2 = self._call(self.model.posterior2, mu_x, blend, products=products)
        refinement = effort.refinement(self.model, x, (height, width), rate) if effort else None
        if refinement:
            d2 = refinement.level2(mu_x, log_s_x, d2, log_r2)
        c2 = yield _target("level2", d2, log_r2)
        mu_p, log_s_p = self._call(self.model.prior1, self._tensor(c2), blend)
        d, log_r, _ = product_of_gaussians(mu_x, log_s_x, mu_p, log_s_p)
        if refinement:
            d = refinement.level1(d, log_r, mu_p, log_s_p)
        c1 = yield _target("level1", d, log_r)
        z1 = mu_p + torch.exp(log_s_p) * self._tensor(c1)
        return partial(self._to_pixels, z1, blend, height, width)

    def decode(self, height: int, width: int, rate: float) -> DecodeLadder:
        """Shapes of level 2, then of level 1; the pixels (height, width, 3) in the end."""
        shape2, shape1 = self.shapes(height, width)
        blend = self._blend(rate)
        c2 = yield "level2", shape2
        mu_p, log_s_p = self._call(self.model.prior1, self._tensor(c2), blend)
        c1 = yield "level1", shape1
        z1 = mu_p + torch.exp(log_s_p) * self._tensor(c1)
        return self._to_pixels(z1, blend, height, width)

    def levels(
        self, pixels: Pixels, rate: float, seed: int, effort: Effort | None = None
    ) -> list[LatentLevel]:
        """Priors and posteriors of level 2 and, given a plain sample of it, of level 1."""
        climb = self.encode(pixels, rate, effort)
        target2 = next(climb)
        c2 = posterior_sample(target2, seed, 0)
        target1 = climb.send(c2)
        prior = self._call(self.model.prior1, self._tensor(c2), self._blend(rate))
        mean, log_scale = (tensor[0].float() for tensor in prior)
        return [
            _level(target2, np.zeros_like(c2), np.ones_like(c2), c2),
            _level(
                target1, mean.numpy(), log_scale.exp().numpy(), posterior_sample(target1, seed, 1)
            ),
        ]

    def shapes(self, height: int, width: int) -> tuple[Shape, Shape]:
        """(C, H, W) of level 2 and of level 1."""
        h, w = padded_side(height) // 32, padded_side(width) // 32
        options = self.model.options
        return (options.level2_channels, h, w), (options.level1_channels, 2 * h, 2 * w)


def _target(name: str, d: Tensor, log_r: Tensor) -> Target:
    if not bool(d.isfinite().all() and log_r.isfinite().all()):
        raise InputError(f"these weights can't code this picture: {name} isn't finite")
    r = torch.exp(log_r).clamp_min(SMALLEST_R)
    return Target(name, d[0].float().contiguous().numpy(), r[0].float().contiguous().numpy())


def _level(target: Target, mean: Array, scale: Array, c: Array) -> LatentLevel:
    """A level in the network's units, from its target, prior and standardised sample."""
    return LatentLevel(
        target.name, mean, scale, mean + scale * target.d, scale * target.r, mean + scale * c
    )
