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
measuring on held-out pictures decided (docs/training.md): the gradient is taken at the means of
the levels, not at samples, whose noise costs more than it tells (but see
``LadderModel.refined_by_samples``); scales stay, since they are right already.

Steps run in tiles whose margins cover what the networks look at, so that gradients are the
whole picture's and memory is bounded. Large pictures are refined in pieces that overlap, each by
itself, since what is kept between steps is several times the latents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from toolkit.entropy_model.base import Gaussian, LadderModel, Level, Size, State, kl_bits
from toolkit.entropy_model.network import arithmetic, encoder_dtype, tensor_of
from toolkit.entropy_model.tiles import Tile, tiles, trim
from toolkit.entropy_model.walk import Walk, mirrored
from toolkit.options import parse_options
from toolkit.sampling.randomness import SharedRandom
from toolkit.training.objective import RateDistortion, distortion
from toolkit.training.recipe import Objective

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels

TILE = 768
"""Pixels a side of a tile: about 0.4 GiB of activations in bfloat16."""
PIECE = 2048
"""Pixels a side of what is refined together: larger pictures are refined piece by piece, with
margins, so that memory is bounded."""
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

    def forget(self) -> None:
        """Make no use of what was seen so far, which takes memory."""
        self.best, self.kept = None, []

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

    def __init__(
        self, steps: int, objective: Mapping[str, Any], seed: int, device: str = "cpu"
    ) -> None:
        self.device = device
        self.objective = parse_options(Objective, objective, "weights: objective")
        self.descent = Descent(steps)
        self.random = SharedRandom(seed, 0).private(1)
        self.dtype = encoder_dtype(device)

    def begin(self, walk: Walk, pixels: Pixels, analyse: Callable[[Tile], State]) -> None:
        """Take up a picture (H, W, 3).

        Arguments:
            walk: The way down its ladder, at the top.
            analyse: Finds out what the encoder knows of a piece with its margins.
        """
        self.model, self.rate, self.padded = walk.model, walk.rate, walk.size
        self.pixels, self.analyse = pixels, analyse
        self.weight = LN2 * float(RateDistortion(self.objective).lambdas(walk.rate)[0])
        if self.objective.laplace_scale is not None:  # the likelihood, but for its constant
            self.weight /= LN2 * self.objective.laplace_scale
        self.steps = steps_by_level(self.descent.steps, walk.model.depth)
        self.pieces = pieces(walk.model, walk.size)
        self.descents = [self.descent, *(Descent(self.descent.steps) for _ in self.pieces[1:])]
        self.several = len(self.pieces) > 1
        dtype = torch.float16 if self.several else walk.rate.dtype
        shapes = walk.model.shapes(walk.size)
        self.offsets = [torch.zeros(1, *shape, dtype=dtype, device=self.device) for shape in shapes]
        self.kept: _Piece | None = None

    def level(self, walk: Walk) -> Iterator[tuple[Tile, Gaussian]]:
        """The refined posterior of the level that the walk has come to, in units of its prior, of
        each piece with its margins."""
        index = walk.index
        for tile, descent in zip(self.pieces, self.descents, strict=True):
            piece = self.piece(tile)
            state, level = walk.level(tile, piece.features)
            assert level.posterior is not None
            posterior = Gaussian(*_ordinary(level.posterior))
            known = Level(Gaussian(*_ordinary(level.prior)), posterior)
            work = _Work(self, piece, index, _ordinary(state), known)
            descent.run(self.steps[index], work.evaluate, piece.offsets[index:][::-1])
            if self.several:
                descent.forget()
                for whole, u in zip(self.offsets[index:], piece.offsets[index:], strict=True):
                    tile.place(whole).copy_(tile.count(u))
            else:
                descent.forget_top()
            d = posterior.mean + torch.exp(posterior.log_scale) * piece.offsets[index]
            yield tile, Gaussian(d, posterior.log_scale)

    def piece(self, tile: Tile) -> _Piece:
        """What of a piece of the picture is needed to refine it."""
        if self.kept is not None:
            return self.kept
        dtype = self.rate.dtype
        x = tensor_of(mirrored(self.pixels, tile.outer), dtype).to(self.device)
        # five scales of MS-SSIM need some room: there, the mirrored part counts, too
        sides = self.pixels.shape[:2]
        if self.objective.distortion == "ms-ssim":
            sides = self.padded[1:]
        rows, columns = (
            min(stop, side) - start for (start, stop), side in zip(tile.outer, sides, strict=True)
        )
        offsets = [tile.crop(u) for u in self.offsets]
        if self.several:
            offsets = [u.to(dtype) for u in offsets]
        piece = _Piece(x, (rows, columns), _ordinary(self.analyse(tile)), offsets)
        if not self.several:
            self.kept = piece
        return piece

    def noise(self, like: Tensor) -> Tensor:
        """Normal noise, shaped as ``like``; other numbers with each call."""
        noise = self.random.standard_normal(tuple(like.shape), "float32")
        return torch.from_numpy(noise).to(like.device, like.dtype)


def pieces(model: LadderModel, size: Size) -> list[Tile]:
    """In which a padded picture is refined, each by itself."""
    return list(tiles(size, model.stride, PIECE, model.reach_below(max(0, model.depth - 2))))


def largest_piece(model: LadderModel, size: Size) -> Size:
    """With its margins."""
    return max((p.outer_size for p in pieces(model, size)), key=lambda s: s.height * s.width)


def steps_by_level(steps: int, depth: int) -> list[int]:
    """How many steps are made before each level is coded, top first: of those after the joint
    ones the last level gets the first, and so on upwards."""
    joint = steps if depth == 1 else round(JOINT_SHARE * steps - 0.01)
    counts = [joint, *[0] * (depth - 1)]
    for step in range(steps - joint):
        counts[depth - 1 - step % (depth - 1)] += 1
    return counts


def _ordinary(tensors: Iterable[Tensor]) -> State:
    """Tensors that gradients can be taken with, unlike those of ``torch.inference_mode``."""
    return tuple(t.clone() if t.is_inference() else t for t in tensors)


@dataclass(frozen=True)
class _Piece:
    """A piece of a picture with its margins, as a picture by itself."""

    x: Tensor
    """(1, 3, H, W) in [0, 1], padded."""
    size: tuple[int, int]
    """Its height and width without padding."""
    features: State
    """What the encoder knows of it."""
    offsets: list[Tensor]
    """Of each level's means, in units of the posterior's scales; top first."""


class _Work:
    """The objective once the levels above ``index`` are known."""

    def __init__(
        self,
        refinement: EncoderRefinement,
        piece: _Piece,
        index: int,
        state: State,
        level: Level,
    ) -> None:
        self.r, self.piece, self.index = refinement, piece, index
        self.state, self.known = state, level

    def evaluate(self, with_gradients: bool) -> Evaluation:
        """The objective, and its gradients by the offsets, the last level's first: summed over
        tiles."""
        r, model = self.r, self.r.model
        moving = self.piece.offsets[self.index :]
        noises = [r.noise(u) for u in moving[:-1]] if model.refined_by_samples else []
        gradients = [torch.zeros_like(u) for u in moving] if with_gradients else []
        nats, distorted = [0.0] * len(moving), 0.0
        size = Size(1, self.piece.x.shape[2], self.piece.x.shape[3])
        margin = model.reach_below(self.index)
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
                del found
            del kl, lost, offsets
            if not tile.whole:
                trim()
        return Evaluation(nats, distorted, gradients[::-1])

    def _tile(
        self, tile: Tile, offsets: list[Tensor], noises: list[Tensor]
    ) -> tuple[list[Tensor], Tensor]:
        """KL in nats of each level, and lambda D, of what counts of a tile."""
        r, model = self.r, self.r.model
        state, features = tile.crop_all(self.state), tile.crop_all(self.piece.features)
        level = _cropped(self.known, tile)
        kl: list[Tensor] = []
        with arithmetic(r.dtype, r.device):
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
        r, piece = self.r, self.piece
        (top, bottom), (left, right) = tile.inner
        bottom, right = min(bottom, piece.size[0]), min(right, piece.size[1])
        if bottom <= top or right <= left:
            return image.sum() * 0
        x = piece.x[:, :, top:bottom, left:right]
        shown = tile.count(image)[:, :, : bottom - top, : right - left]
        pixels = (bottom - top) * (right - left)
        return r.weight * pixels * distortion(x, shown, r.objective.distortion).sum()


def _cropped(level: Level, tile: Tile) -> Level:
    prior, posterior = (
        None if g is None else Gaussian(*tile.crop_all(g)) for g in (level.prior, level.posterior)
    )
    assert prior is not None
    return Level(prior, posterior)
