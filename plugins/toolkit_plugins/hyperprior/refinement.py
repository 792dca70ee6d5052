"""Refining the latents of one picture before they are coded; the networks stay as they are.

What ``toolkit.entropy_model.refinement`` does for samples, for latents that are rounded: a few
gradient steps that lower the objective that the networks were trained for, ``lambda D + bits per
pixel`` (Campos et al. 2019; Yang, Bamler and Mandt 2020, "Improving inference for neural image
compression"). z stays, and so the prior of y: the rate is a sum over latent elements, and a step
costs one pass through the synthesis network and back. Decoders see nothing of it.

A gradient knows nothing of rounding. Two things are done about it (figures: docs/training.md):

- Elements whose prior is wide move in small steps and are rounded in the end. Those whose prior is
  narrow are nearly all rounded to its mean, which their gradient doesn't see: they stay rounded and
  move by whole steps of the quantizer.
- After half of the gradient steps everything is rounded, and all move by whole steps, up or down,
  where the gradient, the curvature and the bits say that the objective falls. Only a random half of
  them does, because neighbours that mend the same error overshoot together; what raises
  the objective after all is undone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from toolkit.entropy_model.base import Size
from toolkit.entropy_model.network import arithmetic, encoder_dtype
from toolkit.entropy_model.refinement import LN2, SLACK, TILE, Nesterov
from toolkit.entropy_model.tiles import Tile, tiles
from toolkit.options import parse_options
from toolkit.sampling.randomness import SharedRandom
from toolkit.training.objective import RateDistortion, distortion
from toolkit.training.recipe import Objective

CURVATURE = 12.0
"""Of lambda D in nats, by an element in steps of the quantizer: where its noise, of variance 1/12,
is worth its bits. Measured: 9 to 15 for elements that aren't rounded to 0, at any rate."""
WIDE = 0.35
"""Scale of the prior, in steps, from which on elements move continuously at first."""
GAIN = 0.7
"""Nats that a whole step must promise ..."""
SHARE = 0.5
"""... and the share of those that do which is made at once."""
PACE = 1.25
"""Gradient steps are so many times as long as those of the ladders."""
MOST_NATS = 24 * LN2
"""What the coder pays for a symbol out of reach: its probabilities have 24 bits."""
REACH = 64
"""Pixels around a tile that the synthesis of its inside looks at."""


class Picture(NamedTuple):
    """What is refined."""

    x: Tensor
    """The padded picture (1, 3, H, W) in [0, 1]."""
    size: tuple[int, int]
    """Its height and width without padding."""
    rate: float
    reconstruct: Callable[[Tensor], Tensor]
    """y, in steps of the quantizer, to the padded picture."""


@dataclass(frozen=True)
class Rounded:
    """y is sent as an integer k and shown as mean + k + dither."""

    scale: Tensor
    dither: Tensor

    def nats(self, v: Tensor) -> Tensor:
        """Of every element, v = y - mean."""
        away = v.abs()
        upper = torch.special.log_ndtr((0.5 - away) / self.scale)
        lower = torch.special.log_ndtr((-0.5 - away) / self.scale)
        between = torch.log(-torch.expm1((lower - upper).clamp_max(-1e-6)))
        return -(upper + between).clamp_min(-MOST_NATS)

    def nearest(self, v: Tensor) -> Tensor:
        """Rounded to what can be sent."""
        return torch.round(v - self.dither) + self.dither

    @property
    def wide(self) -> Tensor:
        """Which elements move continuously at first."""
        return self.scale >= WIDE


@dataclass(frozen=True)
class Sampled:
    """A sample of N(y, width^2) is sent, coded by N(mean, scale^2 + width^2)."""

    scale: Tensor
    width: float

    def nats(self, v: Tensor) -> Tensor:
        """Of every element, but for what doesn't depend on it."""
        return 0.5 * v.square() / (self.scale.square() + self.width**2)


class Evaluation(NamedTuple):
    """The objective at v, in nats, and the gradient of its distortion."""

    v: Tensor
    value: float
    gradient: Tensor


class LatentRefinement:
    """The refinement of one picture's y in ``steps`` steps, for the ``objective`` that the weights'
    file says they were trained for. Deterministic for a seed, a machine and a number of threads."""

    def __init__(
        self, steps: int, objective: Mapping[str, Any], seed: int, picture: Picture
    ) -> None:
        self.steps, self.picture = steps, picture
        self.objective = parse_options(Objective, objective, "weights: objective")
        rate = torch.tensor([picture.rate])
        self.weight = LN2 * float(RateDistortion(self.objective).lambdas(rate)[0])
        if self.objective.laplace_scale is not None:  # the likelihood, but for its constant
            self.weight /= LN2 * self.objective.laplace_scale
        self.random = SharedRandom(seed, 0).private(1)
        self.dtype = encoder_dtype()

    def run(self, y: Tensor, prior_mean: Tensor, rate: Rounded | Sampled) -> Tensor:
        """The refined y, (1, C, h, w); of ``Rounded``, one that can be sent as it is."""
        v = y - prior_mean
        if isinstance(rate, Sampled):
            everywhere = torch.ones_like(v, dtype=torch.bool)
            return prior_mean + self._descend(v, prior_mean, rate, self.steps, everywhere)
        first = self.steps // 2
        narrow = torch.where(rate.wide, v, rate.nearest(v))
        v = rate.nearest(self._descend(narrow, prior_mean, rate, first, rate.wide))
        nowhere = torch.zeros_like(v, dtype=torch.bool)
        return prior_mean + self._descend(v, prior_mean, rate, self.steps - first, nowhere)

    def _descend(
        self, v: Tensor, mean: Tensor, rate: Rounded | Sampled, steps: int, wide: Tensor
    ) -> Tensor:
        """``steps`` steps: of gradients where ``wide``, whole ones elsewhere."""
        best: Evaluation | None = None
        mover, pace = Nesterov(v), PACE / CURVATURE
        slack = SLACK if bool(wide.any()) else 1.0
        for step in range(steps):
            here = self._evaluate(v, mean, rate)
            if best is not None and here.value > best.value * slack:
                here, pace, mover = best, pace / 2, Nesterov(v)
            elif best is None or here.value < best.value:
                best = here
            v = here.v.clone()
            whole = torch.zeros_like(v) if bool(wide.all()) else self._whole_steps(here, rate)
            slope = torch.where(wide, here.gradient + _slope(rate.nats, v), 0)
            mover.move(v, slope, pace * (1 - step / self.steps))
            v = torch.where(wide, v, here.v + whole)
        if best is not None and self._evaluate(v, mean, rate, False).value > best.value * slack:
            return best.v
        return v

    def _whole_steps(self, here: Evaluation, rate: Rounded | Sampled) -> Tensor:
        """+1, -1 or 0 for every element: a random share of the steps that promise enough."""
        now = rate.nats(here.v)
        up, down = (
            now - rate.nats(here.v + s) - s * here.gradient - CURVATURE / 2 for s in (1, -1)
        )
        chance = torch.from_numpy(self.random.random(tuple(now.shape), "float32"))
        chosen = (torch.maximum(up, down) > GAIN) & (chance < SHARE)
        return torch.where(up > down, 1.0, -1.0) * chosen

    def _evaluate(
        self, v: Tensor, mean: Tensor, rate: Rounded | Sampled, with_gradient: bool = True
    ) -> Evaluation:
        """The objective at mean + v, summed over tiles."""
        x, y = self.picture.x, mean + v
        gradient, value = torch.zeros_like(v), float(rate.nats(v).sum())
        for tile in tiles(Size(1, x.shape[2], x.shape[3]), x.shape[2] // v.shape[2], TILE, REACH):
            inside = tile.crop(y).clone().requires_grad_(with_gradient)
            with torch.set_grad_enabled(with_gradient):
                lost = self._distortion(tile, inside)
            value += float(lost.detach())
            if with_gradient:
                tile.crop(gradient).add_(torch.autograd.grad(lost, inside)[0])
        return Evaluation(v, value, gradient)

    def _distortion(self, tile: Tile, y: Tensor) -> Tensor:
        """``lambda D`` in nats, summed over the pixels of a tile that count."""
        with arithmetic(self.dtype):
            image = self.picture.reconstruct(y)
        whole = self.objective.distortion == "ms-ssim"  # five scales need some room
        ends = self.picture.x.shape[2:] if whole else self.picture.size
        (top, bottom), (left, right) = (
            (start, max(start, min(stop, end)))
            for (start, stop), end in zip(tile.inner, ends, strict=True)
        )
        if bottom == top or right == left:
            return image.sum() * 0
        x = self.picture.x[:, :, top:bottom, left:right]
        shown = tile.count(image.float())[:, :, : bottom - top, : right - left]
        pixels = x.shape[2] * x.shape[3]
        return self.weight * pixels * distortion(x, shown, self.objective.distortion).sum()


def _slope(function: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
    """The gradient of the sum of what it gives."""
    with torch.enable_grad():
        at = v.detach().clone().requires_grad_(True)
        return torch.autograd.grad(function(at).sum(), at)[0]
