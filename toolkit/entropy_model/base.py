r"""What an entropy model that sends samples is: a ladder of Gaussians, written once.

::

    x --> analyse --> features     top level            last level
                          \           z |                   z |
    start --> state --> level --> descend --> level --> descend --> reconstruct --> x_hat
                          |                     |
                  prior, posterior      prior, posterior

A model says how each level's prior follows from the state (what is known of the levels above),
how the encoder's posterior follows from the state and its features, and what a sample does to
the state. The same few methods train, encode, decode, refine and draw: whatever an encoder knows
of a level, the decoder has, since both walk the same path (Flamich 2019, section 3.2.2; ladders:
Sønderby et al. 2016, arXiv:1602.02282).

Levels are coded from the top (level index 0) down. By name they are counted from the image:
``level1`` is the last, nearest the image.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.options import Options
from toolkit.training.objective import TrainingPass

State = tuple[Tensor, ...]
"""Maps (B, C, h, w), each at a stride of its own: what is known at some place of the ladder. May be
empty."""


class Size(NamedTuple):
    """Of a batch of images: sides in pixels, multiples of the model's stride."""

    batch: int
    height: int
    width: int


class Gaussian(NamedTuple):
    """Independent Gaussians: mean and natural logarithm of the scale, (B, C, h, w) each."""

    mean: Tensor
    log_scale: Tensor


@dataclass(frozen=True)
class Level:
    """One level: its prior in the network's units, and the posterior in units of that prior."""

    prior: Gaussian
    posterior: Gaussian | None = None
    """N(d, r^2) against the prior as N(0, 1): mean d, log scale log r. None where there are no
    features: in a decoder."""

    def latent(self, c: Tensor) -> Tensor:
        """The latent, in the network's units, that a sample stands for.

        Arguments:
            c: the sample in units of the prior, (B, C, h, w).
        """
        return self.prior.mean + torch.exp(self.prior.log_scale) * c

    def kl_bits(self) -> Tensor:
        """KL[posterior || prior] of every latent element, in bits, (B, C, h, w)."""
        assert self.posterior is not None
        return kl_bits(*self.posterior)


def standard_prior(like: Tensor) -> Gaussian:
    """N(0, 1), shaped as ``like``."""
    return Gaussian(torch.zeros_like(like), torch.zeros_like(like))


def standardised(posterior: Gaussian, prior: Gaussian) -> Gaussian:
    """A posterior in units of the prior: what ``Level`` takes.

    Arguments:
        posterior: in the network's units.
        prior: in the network's units.
    """
    d = (posterior.mean - prior.mean) * torch.exp(-prior.log_scale)
    return Gaussian(d, posterior.log_scale - prior.log_scale)


def product_of_gaussians(encoder: Gaussian, prior: Gaussian) -> Gaussian:
    """The posterior that is proportional to the encoder's Gaussian times the prior, in units of
    the prior: what ``Level`` takes. Its scale is below 1.

    Arguments:
        encoder: what the encoder alone says of the latents, in the network's units.
        prior: in the network's units.

    Precision-weighted: ``v = 1 / (s_x^-2 + s_p^-2)``, ``mu = (s_x^-2 mu_x + s_p^-2 mu_p) v``.
    (Section 3.2.2 prints sigma^-1 for sigma^-2 and gives each mean the other Gaussian's
    weight, so that a sharp encoder is ignored; this is the correction.)
    """
    log_ratio = 2 * (prior.log_scale - encoder.log_scale)
    d = (encoder.mean - prior.mean) * torch.exp(-prior.log_scale) * torch.sigmoid(log_ratio)
    return Gaussian(d, -0.5 * F.softplus(log_ratio))


def kl_bits(d: Tensor, log_r: Tensor) -> Tensor:
    """KL[N(d, r^2) || N(0, 1)] in bits, elementwise."""
    return (0.5 / math.log(2)) * (d * d + torch.exp(2 * log_r) - 1 - 2 * log_r)


class LadderModel(nn.Module, ABC):
    """Base class of entropy models that send samples; conditioned on a rate in [0, 1].

    A subclass sets ``options_class``, ``stride`` and ``depth`` and implements the five methods
    below. All maps are (B, C, h, w); h and w are the padded image's sides over some stride.
    A rate is (B,), one for each image, from 0, fewest bits, to 1; images may differ in theirs.
    No method changes a map that it is given, or keeps anything of an image in ``self``.
    """

    options_class: ClassVar[type[Options]] = Options
    encoder_options_class: ClassVar[type[Options]] = Options
    """Of what an encoder alone does with trained weights: neither weights nor files say it."""
    begins_with: ClassVar[tuple[str, ...]] = ()
    """Names of other entropy models whose weights a training run of this one may begin with (see
    ``Start``): they have the same tensors."""
    stride: int = 16
    """Sides of the images that it takes are multiples of this ..."""
    least_side: int = 1
    """... and at least this (mirror padding needs something to mirror)."""
    depth: int = 1
    """How many levels it has."""
    reach: int = 256
    """Pixels around a piece of a picture that any one step (from a level's sample to the next
    level, or to the image) may look at, the analysis too; large pictures are worked on in tiles
    with such margins."""
    image_reach: int | None = None
    """The same of the last step, to the image, where it looks less far; None: ``reach``."""
    refined_by_samples: bool = False
    """Whether refinement takes the gradient at samples of the upper levels, not at their means:
    what is better for two levels; the noise of more costs more than it tells."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.encoder = self.encoder_options_class()

    encoder_arithmetic: Callable[[], AbstractContextManager[Any]] = staticmethod(nullcontext)
    """``with self.encoder_arithmetic():`` around what only an encoder computes within ``level``:
    where files are coded, it is as fast as the processor allows."""

    @abstractmethod
    def analyse(self, x: Tensor, rate: Tensor) -> State:
        """What the encoder knows of the images.

        Arguments:
            x: (B, 3, H, W), in [0, 1]; H and W are multiples of ``stride``.
            rate: (B,).

        Returns:
            The features that ``level`` gets: maps, all that it needs of the images.
        """

    @abstractmethod
    def start(self, size: Size, rate: Tensor) -> State:
        """What is known before any level is.

        Arguments:
            size: of the batch of images.
            rate: (B,).

        Returns:
            Maps that depend on the size and the rate alone, or none.
        """

    @abstractmethod
    def level(self, index: int, state: State, features: State | None, rate: Tensor) -> Level:
        """A level given the state. Encoder-only work belongs inside ``if features is not None``.

        Arguments:
            index: 0 is the top, ``depth - 1`` the level nearest the image.
            state: what is known of the levels above.
            features: what ``analyse`` returned; None in a decoder.
            rate: (B,).

        Returns:
            The prior, which is the same with features and without, and with features the
            posterior in units of the prior (``product_of_gaussians``, ``standardised``).
        """

    @abstractmethod
    def descend(self, index: int, state: State, z: Tensor, rate: Tensor) -> State:
        """The state once a level's latents are known.

        Arguments:
            index: of the level; 0 is the top.
            state: what ``level`` was given.
            z: its latents in the network's units, (B, C, h, w).
            rate: (B,).

        Returns:
            The state for the next level, or after the last for ``reconstruct``.
        """

    @abstractmethod
    def reconstruct(self, state: State, rate: Tensor) -> Tensor:
        """The images from the last state.

        Returns:
            (B, 3, H, W), pixels in [0, 1] but not clipped.
        """

    def name(self, index: int) -> str:
        """Of level ``index``: ``level1`` is nearest the image."""
        return level_name(index, self.depth)

    def reach_below(self, index: int) -> int:
        """Pixels around a piece of the image that samples from level ``index`` down matter to;
        each step's in whole strides."""
        steps = [self.reach] * (self.depth - 1 - index)
        last = self.reach if self.image_reach is None else self.image_reach
        return sum(-(-step // self.stride) * self.stride for step in [*steps, last])

    def shapes(self, size: Size) -> list[tuple[int, int, int]]:
        """(C, h, w) of every level, top first, of a padded image."""
        least = -(-self.least_side // self.stride) * self.stride
        small = Size(1, max(least, self.stride), max(least, self.stride))
        found: list[tuple[int, int, int]] = []

        def note(index: int, level: Level) -> Tensor:
            channels, rows, columns = level.prior.mean.shape[1:]
            sides = (size.height * rows // small.height, size.width * columns // small.width)
            found.append((channels, *sides))
            return torch.zeros_like(level.prior.mean)

        parameter = next(self.parameters())
        rate = torch.zeros(1, dtype=parameter.dtype, device=parameter.device)
        with torch.no_grad():
            self.walk(small, rate, None, note)
        return found

    def walk(
        self,
        size: Size,
        rate: Tensor,
        features: State | None,
        choose: Callable[[int, Level], Tensor],
    ) -> Tensor:
        """Down the whole ladder to the image, (B, 3, H, W), not clipped.

        Arguments:
            size: of the batch of images.
            rate: (B,).
            features: what ``analyse`` returned; None: levels have no posterior.
            choose: Called with each level's index and the level; returns the sample, in units of
                the level's prior.
        """
        state = self.start(size, rate)
        for index in range(self.depth):
            level = self.level(index, state, features, rate)
            state = self.descend(index, state, level.latent(choose(index, level)), rate)
        return self.reconstruct(state, rate)

    def training_pass(self, x: Tensor, rate: Tensor) -> TrainingPass:
        """One sample of every level: what the loss needs.

        KL terms below the top are expectations over the levels above, taken by one sample (the
        KL chain rule; section 3.2.2 leaves the expectation out).

        Arguments:
            x: Images (B, 3, H, W) in [0, 1].
            rate: (B,) in [0, 1].

        Returns:
            The images from the samples, and each level's KL in bits, (B,), by its name.
        """
        bits: dict[str, Tensor] = {}

        def sample(index: int, level: Level) -> Tensor:
            assert level.posterior is not None
            d, log_r = level.posterior
            bits[self.name(index)] = kl_bits(d, log_r).sum((1, 2, 3))
            return d + torch.randn_like(d) * torch.exp(log_r)

        size = Size(len(x), x.shape[2], x.shape[3])
        return TrainingPass(self.walk(size, rate, self.analyse(x, rate), sample), bits)


def level_name(index: int, depth: int) -> str:
    """Name of level ``index`` (0: the top) of ``depth``: ``level1`` is nearest the image."""
    return f"level{depth - index}"
