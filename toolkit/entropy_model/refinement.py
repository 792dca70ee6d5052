"""Refining the posterior of one picture before it is coded; the networks stay as they are.

The analysis networks answer at once for any picture, and so not as well as could be for one
(the amortisation gap). A few gradient steps on the means of this picture's posterior lower the
objective that the networks were trained for, ``lambda D + bits per pixel``: semi-amortised
inference (Campos et al. 2019, "Content adaptive optimization for neural image compression";
Yang, Bamler, Mandt 2020, "Improving inference for neural image compression"). A decoder sees
nothing of it.

First all levels move together; then, as the samples of the upper levels become known, those
below move on. What moves is the offset u of each mean in units of its posterior's scale: there
the objective's curvature is about 1 for every latent element of the last level (1/r^2 is prior
precision plus distortion's curvature), which makes plain gradient steps about natural ones. What
measuring on held-out pictures decided (docs/training.md): the gradient is taken at the mean of
the last level, not at a sample, whose noise costs more than it tells; scales stay, since they
are right already.

Steps run in tiles whose margins cover what the networks look at, so that gradients are the
whole picture's and memory is bounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from toolkit.entropy_model.base import Gaussian, LadderModel, Level, Size, State, kl_bits
from toolkit.entropy_model.network import arithmetic, encoder_dtype
from toolkit.entropy_model.tiles import Tile, tiles, whole_tile
from toolkit.entropy_model.walk import Walk
from toolkit.options import parse_options
from toolkit.sampling.randomness import SharedRandom
from toolkit.training.objective import RateDistortion, distortion
from toolkit.training.recipe import Objective

TILE = 768
"""Pixels a side of a tile: about 0.4 GiB of activations in bfloat16."""
JOINT_SHARE = 0.7
"""Of the steps, those before the top level is coded."""
STEP, MOMENTUM = 0.2, 0.7
"""Last level: Nesterov's accelerated gradient."""
UPPER_STEP, MEAN_DECAY, SQUARE_DECAY, DAMPING = 0.05, 0.8, 0.95, 1e-3
"""Upper levels: Adam (Kingma and Ba 2015), since their curvature, through the priors below, is
anybody's."""
SLACK = 1.005
"""An objective above the best so far by this factor is an overshoot: go back, half the pace."""

LN2 = math.log(2)


class Evaluation(NamedTuple):
    """The objective in nats, and its gradients by the offsets that move."""

    nats: list[float]
    """KL of each level that isn't known yet, top first."""
    distortion: float
    gradients: list[Tensor]

    @property
    def value(self) -> float:
        """The objective."""
        return sum(self.nats) + self.distortion


class Nesterov:
    """Nesterov's momentum; ``pace`` scales the step."""

    def __init__(self, like: Tensor) -> None:
        self.velocity = torch.zeros_like(like)

    def move(self, u: Tensor, gradient: Tensor, pace: float) -> None:
        self.velocity.mul_(MOMENTUM).add_(gradient)
        u.sub_(gradient + MOMENTUM * self.velocity, alpha=STEP * pace)


class Adam:
    """Adam with short memories, for a few steps."""

    def __init__(self, like: Tensor) -> None:
        self.mean, self.square, self.count = torch.zeros_like(like), torch.zeros_like(like), 0

    def move(self, u: Tensor, gradient: Tensor, pace: float) -> None:
        self.count += 1
        self.mean.lerp_(gradient, 1 - MEAN_DECAY)
        self.square.lerp_(gradient.square(), 1 - SQUARE_DECAY)
        mean = self.mean / (1 - MEAN_DECAY**self.count)
        root = (self.square / (1 - SQUARE_DECAY**self.count)).sqrt_()
        u.sub_(mean / (root + DAMPING), alpha=UPPER_STEP * pace)


class Descent:
    """Steps downhill that go back where they overshoot.

    Step lengths fall linearly to 0 over all of ``steps``, whatever phases they come in.
    """

    def __init__(self, steps: int) -> None:
        self.steps, self.done, self.pace = steps, 0, 1.0
        self.fell = False  # since the last overshoot, a step was seen to lower the objective
        self.best: Evaluation | None = None
        self.kept: list[Tensor] = []  # the offsets there

    def run(
        self, steps: int, evaluate: Callable[[bool], Evaluation], offsets: list[Tensor]
    ) -> None:
        """Move ``offsets`` (the last level's first) in place by ``steps`` steps.

        A phase's last step is looked at when the next phase begins, the very last, which is the
        shortest, never; but either at once if no longer one since the last overshoot was seen to
        lower the objective.
        """
        if steps == 0:
            return
        movers = _movers(offsets)
        for _ in range(steps):
            here = evaluate(True)
            if self._overshot(here):
                here = self._go_back(offsets)
                movers = _movers(offsets)
            elif self.best is None or here.value < self.best.value:
                self.fell |= self.best is not None
                self.best, self.kept = here, [u.clone() for u in offsets]
            pace = self.pace * (1 - self.done / self.steps)
            for mover, u, gradient in zip(movers, offsets, here.gradients, strict=False):
                mover.move(u, gradient, pace)
            self.done += 1
        if not self.fell:
            self.fell = True
            if self._overshot(evaluate(False)):
                self._go_back(offsets)

    def forget_top(self) -> None:
        """The top one of the levels that moved is known now: its bits count no longer."""
        if self.best is not None:
            self.best = self.best._replace(nats=self.best.nats[1:])

    def _overshot(self, here: Evaluation) -> bool:
        return self.best is not None and not here.value <= self.best.value * SLACK

    def _go_back(self, offsets: list[Tensor]) -> Evaluation:
        """Undo an overshoot; steps from here on are half as long."""
        assert self.best is not None
        for u, old in zip(offsets, self.kept, strict=False):
            u.copy_(old)
        self.pace /= 2
        self.fell = False
        return self.best


def _movers(offsets: list[Tensor]) -> list[Nesterov | Adam]:
    """The last level's optimiser, and those of the levels above it."""
    return [Nesterov(offsets[0]), *(Adam(u) for u in offsets[1:])]


class EncoderRefinement:
    """The refinement of one picture in ``steps`` gradient steps, for the ``objective`` that the
    weights' file says they were trained for. Deterministic for a seed, a machine and a number of
    threads.

    Raises UsageError where the file doesn't say what Laplace scale was learned.
    """

    def __init__(self, steps: int, objective: Mapping[str, Any], seed: int) -> None:
        self.objective = parse_options(Objective, objective, "weights: objective")
        self.descent = Descent(steps)
        self.random = SharedRandom(seed, 0).private(1)
        self.dtype = encoder_dtype()

    def begin(
        self,
        model: LadderModel,
        x: Tensor,
        size: tuple[int, int],
        rate: Tensor,
        features: State,
    ) -> None:
        """Take up a picture.

        Arguments:
            x: The padded picture (1, 3, H, W) in [0, 1].
            size: Its height and width without padding.
            features: What the encoder knows of it.
        """
        self.model, self.x, self.rate = model, x, rate
        self.features = tuple(t.clone() for t in features)
        # five scales of MS-SSIM need some room: there, the mirrored part counts, too
        whole = self.objective.distortion == "ms-ssim"
        self.size = (x.shape[2], x.shape[3]) if whole else size
        self.weight = LN2 * float(RateDistortion(self.objective).lambdas(rate)[0])
        if self.objective.laplace_scale is not None:  # the likelihood, but for its constant
            self.weight /= LN2 * self.objective.laplace_scale
        padded = Size(1, x.shape[2], x.shape[3])
        self.offsets = [torch.zeros(1, *shape, dtype=x.dtype) for shape in model.shapes(padded)]
        self.steps = steps_by_level(self.descent.steps, model.depth)

    def level(self, walk: Walk, features: State) -> Iterator[tuple[Tile, Gaussian]]:
        """The refined posterior of the level that the walk has come to, in units of its prior."""
        tile = whole_tile(walk.size)
        index = walk.index
        state, level = walk.level(tile, features)
        assert level.posterior is not None
        state = tuple(t.clone() for t in state)
        prior, posterior = (
            Gaussian(*(t.clone() for t in g)) for g in (level.prior, level.posterior)
        )
        work = _Work(self, index, state, Level(prior, posterior))
        self.descent.run(self.steps[index], work.evaluate, self.offsets[index:][::-1])
        self.descent.forget_top()
        d = posterior.mean + torch.exp(posterior.log_scale) * self.offsets[index]
        yield tile, Gaussian(d, posterior.log_scale)

    def noise(self, like: Tensor) -> Tensor:
        """Normal noise, shaped as ``like``; other numbers with each call."""
        noise = self.random.standard_normal(tuple(like.shape), "float32")
        return torch.from_numpy(noise).to(like.dtype)


def steps_by_level(steps: int, depth: int) -> list[int]:
    """How many steps are made before each level is coded, top first: of those after the joint
    ones the last level gets the first, and so on upwards."""
    joint = steps if depth == 1 else round(JOINT_SHARE * steps - 0.01)
    counts = [joint, *[0] * (depth - 1)]
    for step in range(steps - joint):
        counts[depth - 1 - step % (depth - 1)] += 1
    return counts


class _Work:
    """The objective once the levels above ``index`` are known."""

    def __init__(
        self, refinement: EncoderRefinement, index: int, state: State, level: Level
    ) -> None:
        self.r, self.index, self.state, self.known = refinement, index, state, level

    def evaluate(self, with_gradients: bool) -> Evaluation:
        """The objective, and its gradients by the offsets, the last level's first: summed over
        tiles."""
        r, model = self.r, self.r.model
        moving = r.offsets[self.index :]
        noises = [r.noise(u) for u in moving[:-1]]
        gradients = [torch.zeros_like(u) for u in moving] if with_gradients else []
        nats, distorted = [0.0] * len(moving), 0.0
        size = Size(1, r.x.shape[2], r.x.shape[3])
        margin = model.reach * len(moving)
        for tile in tiles(size, model.stride, TILE, margin):
            offsets = [tile.crop(u).detach().clone() for u in moving]
            for u in offsets:
                u.requires_grad_(with_gradients)
            with torch.set_grad_enabled(with_gradients):
                kl, lost = self._tile(tile, offsets, [tile.crop(n) for n in noises])
            nats = [total + float(part.detach()) for total, part in zip(nats, kl, strict=True)]
            distorted += float(lost.detach())
            if with_gradients:
                found = torch.autograd.grad(torch.stack(kl).sum() + lost, offsets)
                for total, part in zip(gradients, found, strict=True):
                    tile.crop(total).add_(part)
        return Evaluation(nats, distorted, gradients[::-1])

    def _tile(
        self, tile: Tile, offsets: list[Tensor], noises: list[Tensor]
    ) -> tuple[list[Tensor], Tensor]:
        """KL in nats of each level, and lambda D, of what counts of a tile."""
        r, model = self.r, self.r.model
        state, features = tile.crop_all(self.state), tile.crop_all(r.features)
        level = _cropped(self.known, tile)
        kl: list[Tensor] = []
        with arithmetic(r.dtype):
            for k, u in enumerate(offsets):
                if k:
                    level = model.level(self.index + k, state, features, r.rate)
                assert level.posterior is not None
                d, log_r = level.posterior
                spread = torch.exp(log_r)
                mean = d + spread * u
                kl.append(LN2 * tile.count(kl_bits(mean, log_r)).sum())
                c = mean + spread * noises[k] if k < len(noises) else mean
                state = model.descend(self.index + k, state, level.latent(c), r.rate)
            image = model.reconstruct(state, r.rate)
        return kl, self._distortion(tile, image)

    def _distortion(self, tile: Tile, image: Tensor) -> Tensor:
        """``lambda D`` in nats, summed over the pixels that count: no padding."""
        r = self.r
        (top, bottom), (left, right) = tile.inner
        bottom, right = min(bottom, r.size[0]), min(right, r.size[1])
        if bottom <= top or right <= left:
            return image.sum() * 0
        x = r.x[:, :, top:bottom, left:right]
        shown = tile.count(image)[:, :, : bottom - top, : right - left]
        pixels = (bottom - top) * (right - left)
        return r.weight * pixels * distortion(x, shown, r.objective.distortion).sum()


def _cropped(level: Level, tile: Tile) -> Level:
    prior, posterior = (
        None if g is None else Gaussian(*tile.crop_all(g)) for g in (level.prior, level.posterior)
    )
    assert prior is not None
    return Level(prior, posterior)
