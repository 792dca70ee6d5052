"""Refining the posterior of one picture before it is coded; the networks stay as they are.

The analysis networks answer at once for any picture, and so not as well as could be for one
(the amortisation gap). A few gradient steps on the means of this picture's posterior lower the
objective that the networks were trained for, ``lambda D + bits per pixel``: semi-amortised
inference (Campos et al. 2019, "Content adaptive optimization for neural image compression";
Yang, Bamler, Mandt 2020, "Improving inference for neural image compression"). A decoder sees
nothing of it.

Two phases: both levels together; then, given the z2 that was coded, level 1 alone. What moves
is the offset u of each mean in units of its posterior's scale: there the objective's curvature
is about 1 for every latent (1/r^2 is prior precision plus distortion's curvature), which makes
plain gradient steps about natural ones. What measuring on held-out pictures decided
(docs/training.md): the gradient is taken at the mean of level 1, not at a sample, whose noise
costs more than it tells; scales stay, since they are right already.

Memory: everything of a picture's size is held for latents only, 1.5 GiB at 24 megapixels. The
synthesis network runs in tiles whose margins cover its reach, so that gradients are the whole
picture's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from toolkit.errors import UsageError
from toolkit.options import parse_options
from toolkit.sampling.randomness import SharedRandom
from toolkit.training.objective import RateDistortion, distortion
from toolkit.training.recipe import Objective
from toolkit_plugins.pln.ladder import arithmetic, encoder_dtype
from toolkit_plugins.pln.model import PLN, kl_bits, product_of_gaussians

TILE = 48
"""Side of a tile in latents of level 1: 768 pixels, 0.35 GiB of activations in bfloat16."""
MARGIN = 2
"""Latents of level 1 beyond a tile that its pixels depend on."""
LATENT = 16
"""Pixels a side of one latent of level 1."""
JOINT_SHARE = 0.7
"""Of the steps, those before level 2 is coded."""
STEP1, MOMENTUM = 0.2, 0.7
"""Level 1: Nesterov's accelerated gradient."""
STEP2, MEAN_DECAY, SQUARE_DECAY, DAMPING = 0.05, 0.8, 0.95, 1e-3
"""Level 2: Adam (Kingma and Ba 2015), since its curvature, through the prior, is anybody's."""
SLACK = 1.005
"""An objective above the best so far by this factor is an overshoot: go back, half the pace."""

LN2 = math.log(2)


class Evaluation(NamedTuple):
    """The objective in nats, and its gradients by the offsets that move."""

    value: float
    """Of level 1 and the picture."""
    gradients: list[Tensor]
    level2: float = 0.0
    """Of level 2, as long as it moves."""

    @property
    def whole(self) -> float:
        """The objective."""
        return self.value + self.level2


class Nesterov:
    """Nesterov's momentum; ``pace`` scales the step."""

    def __init__(self, like: Tensor) -> None:
        self.velocity = torch.zeros_like(like)

    def move(self, u: Tensor, gradient: Tensor, pace: float) -> None:
        self.velocity.mul_(MOMENTUM).add_(gradient)
        u.sub_(gradient + MOMENTUM * self.velocity, alpha=STEP1 * pace)


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
        u.sub_(mean / (root + DAMPING), alpha=STEP2 * pace)


class Effort:
    """How pictures are refined: in ``steps`` gradient steps, for the ``objective`` that the
    weights' file says they were trained for.

    Raises UsageError where the file doesn't say what Laplace scale was learned.
    """

    def __init__(self, steps: int, objective: Mapping[str, Any], seed: int) -> None:
        self.steps, self.seed = steps, seed
        self.objective = parse_options(Objective, objective, "weights: objective")
        if self.objective.learned_scale and self.objective.laplace_scale is None:
            raise UsageError(
                "effort: these weights were trained with a learned Laplace scale, which their "
                "file doesn't hold; only effort 0 goes with them"
            )

    def refinement(self, model: PLN, x: Tensor, size: tuple[int, int], rate: float) -> Refinement:
        """Of the padded picture ``x`` (1, 3, H, W) in [0, 1] at one rate; ``size`` is its height
        and width without padding."""
        return Refinement(self, model, x, size, rate)


class Refinement:
    """The refinement of one picture. Deterministic for a seed, a machine and a number of
    threads."""

    def __init__(
        self, effort: Effort, model: PLN, x: Tensor, size: tuple[int, int], rate: float
    ) -> None:
        objective = effort.objective
        self.model, self.x, self.kind = model, x, objective.distortion
        # five scales of MS-SSIM need some room: there, the mirrored part counts, too
        self.size = (x.shape[2], x.shape[3]) if self.kind == "ms-ssim" else size
        self.blend = model.blend(torch.tensor([rate], dtype=x.dtype))
        self.weight = LN2 * float(RateDistortion(objective).lambdas(torch.tensor(rate)))
        if objective.laplace_scale is not None:  # the likelihood, but for its constant
            self.weight /= LN2 * objective.laplace_scale
        self.steps, self.done, self.pace = effort.steps, 0, 1.0
        self.fell = False  # since the last overshoot, a step was seen to lower the objective
        self.best, self.kept = Evaluation(math.inf, []), list[Tensor]()  # and the offsets there
        self.random = SharedRandom(effort.seed, 0).private(1)
        self.dtype = encoder_dtype()
        self.u1 = torch.zeros(0)

    @property
    def joint_steps(self) -> int:
        """How many steps move both levels; the rest move level 1 alone."""
        return round(JOINT_SHARE * self.steps - 0.01)

    def level2(self, mu_x: Tensor, log_s_x: Tensor, d2: Tensor, log_r2: Tensor) -> Tensor:
        """Refine both levels; the means of q(z2|x), (1, G, h, w), in units of the prior."""
        mu_x, log_s_x, d2, log_r2 = (t.clone() for t in (mu_x, log_s_x, d2, log_r2))
        r2 = torch.exp(log_r2)
        u1, u2 = torch.zeros_like(mu_x), torch.zeros_like(d2)

        def evaluate(with_gradients: bool) -> Evaluation:
            here1, here2 = (u.detach().requires_grad_(with_gradients) for u in (u1, u2))
            with torch.set_grad_enabled(with_gradients), arithmetic(self.dtype):
                mean2 = d2 + r2 * here2
                mu_p, log_s_p = self.model.prior1(mean2 + r2 * self._noise(r2), self.blend)
            with torch.set_grad_enabled(with_gradients):
                d1, log_r1, _ = product_of_gaussians(mu_x, log_s_x, mu_p.float(), log_s_p.float())
                d1 = d1 + torch.exp(log_r1) * here1
                nats2 = LN2 * kl_bits(mean2, log_r2).sum()
                nats1 = LN2 * kl_bits(d1, log_r1).sum()
                z1 = mu_p + torch.exp(log_s_p) * d1
                distorted, by_z1 = self._distortion(z1.detach(), with_gradients)
                values = float(nats1.detach()) + distorted, float(nats2.detach())
                if by_z1 is None:
                    return Evaluation(values[0], [], values[1])
                gradients = torch.autograd.grad([nats1 + nats2, z1], [here1, here2], [None, by_z1])
            return Evaluation(values[0], list(gradients), values[1])

        self.u1 = u1
        self._descend(self.joint_steps, evaluate, [u1, u2])
        self.best = self.best._replace(level2=0.0)
        return d2 + r2 * u2

    def level1(self, d1: Tensor, log_r1: Tensor, mu_p: Tensor, log_s_p: Tensor) -> Tensor:
        """Refine level 1 given its prior; the means of q(z1|z2, x), (1, F, h, w), in its units.

        ``d1`` and ``log_r1`` are those of the networks; what ``level2`` found is kept.
        """
        d1, r1, mu_p, s_p = d1.clone(), torch.exp(log_r1), mu_p.clone(), torch.exp(log_s_p)
        variances = float(kl_bits(torch.zeros_like(d1), log_r1).sum()) * LN2
        u1 = self.u1

        def evaluate(with_gradients: bool) -> Evaluation:
            mean = d1 + r1 * u1
            distorted, by_z1 = self._distortion(mu_p + s_p * mean, with_gradients)
            value = variances + 0.5 * float(mean.square().sum()) + distorted
            gradients = [] if by_z1 is None else [r1 * (mean + s_p * by_z1)]
            return Evaluation(value, gradients)

        self._descend(self.steps - self.done, evaluate, [u1])
        return d1 + r1 * u1

    # -- steps -----------------------------------------------------------------

    def _descend(
        self, steps: int, evaluate: Callable[[bool], Evaluation], offsets: list[Tensor]
    ) -> None:
        """Move ``offsets`` (level 1's, then perhaps level 2's) in place by ``steps`` steps, whose
        length falls linearly to 0 over all phases, and go back where the objective rises more
        than ``SLACK`` above the least that was seen. A phase's last step is looked at when the
        next phase begins, the very last, which is the shortest, never; but either at once if no
        longer one since the last overshoot was seen to lower the objective."""
        if steps == 0:
            return
        movers = _movers(offsets)
        for _ in range(steps):
            here = evaluate(True)
            if self._overshot(here):
                self._go_back(offsets)
                movers = _movers(offsets)
                here = self.best
            elif here.whole < self.best.whole or not self.kept:
                self.fell |= bool(self.kept)
                self.best, self.kept = here, [u.clone() for u in offsets]
            pace = self.pace * (1 - self.done / self.steps)
            for mover, u, gradient in zip(movers, offsets, here.gradients, strict=False):
                mover.move(u, gradient, pace)
            self.done += 1
        if not self.fell:
            self.fell = True
            if self._overshot(evaluate(False)):
                self._go_back(offsets)

    def _overshot(self, here: Evaluation) -> bool:
        return bool(self.kept) and not here.whole <= self.best.whole * SLACK

    def _go_back(self, offsets: list[Tensor]) -> None:
        """Undo an overshoot; steps from here on are half as long."""
        for u, old in zip(offsets, self.kept, strict=False):
            u.copy_(old)
        self.pace /= 2
        self.fell = False

    # -- parts -----------------------------------------------------------------

    def _noise(self, like: Tensor) -> Tensor:
        noise = self.random.standard_normal(tuple(like.shape), "float32")
        return torch.from_numpy(noise).to(like.dtype)

    def _distortion(self, z1: Tensor, with_gradient: bool) -> tuple[float, Tensor | None]:
        """``lambda D`` of the picture that z1 makes, in nats summed over its pixels, and the
        gradient by z1: summed over tiles."""
        value = 0.0
        gradient = torch.zeros_like(z1) if with_gradient else None
        for rows, top in _tiles(z1.shape[2], self.size[0]):
            for columns, left in _tiles(z1.shape[3], self.size[1]):
                tile = z1[:, :, rows, columns].contiguous(memory_format=torch.channels_last)
                part, by_tile = self._tile(tile, (rows, columns), (top, left), with_gradient)
                value += part
                if gradient is not None:
                    gradient[:, :, rows, columns] += by_tile
        return value, gradient

    def _tile(
        self,
        z1: Tensor,
        place: tuple[slice, slice],
        counted: tuple[slice, slice],
        with_gradient: bool,
    ) -> tuple[float, Tensor]:
        """One tile's ``lambda D`` over its ``counted`` pixels, and the gradient by ``z1``, which
        is at ``place`` among the latents."""
        z1 = z1.detach().requires_grad_(with_gradient)
        starts = (place[0].start * LATENT, place[1].start * LATENT)
        inside = tuple(slice(c.start - s, c.stop - s) for c, s in zip(counted, starts, strict=True))
        x = self.x[:, :, counted[0], counted[1]]
        with torch.set_grad_enabled(with_gradient):
            with arithmetic(self.dtype):
                image = self.model.reconstruct(z1, self.blend)
            pixels = x.shape[2] * x.shape[3]
            shown = image[:, :, inside[0], inside[1]]
            value = self.weight * pixels * distortion(x, shown, self.kind).sum()
            gradient = torch.autograd.grad(value, z1)[0] if with_gradient else z1
        return float(value.detach()), gradient


def _movers(offsets: list[Tensor]) -> list[Nesterov | Adam]:
    """Level 1's optimiser, and level 2's where it moves, too."""
    return [Nesterov(offsets[0]), *(Adam(u) for u in offsets[1:])]


def _tiles(latents: int, pixels: int) -> Iterator[tuple[slice, slice]]:
    """(latents with margins, pixels that count) of each tile along one side, about as long as
    each other; ``pixels`` of the side are of the picture, the rest is padding."""
    count = -(-latents // TILE)
    edges = [i * latents // count for i in range(count + 1)]
    for start, stop in itertools.pairwise(edges):
        last = min(pixels, stop * LATENT)
        if last > start * LATENT:
            margins = slice(max(0, start - MARGIN), min(latents, stop + MARGIN))
            yield margins, slice(start * LATENT, last)
