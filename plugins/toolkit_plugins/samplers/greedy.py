"""Greedy sampling: a block's value as a sum of shards, each the best of 2^b draws.

Thesis, algorithm 2. After k of K shards of variances t_1, t_2 - t_1, ..., the partial sum c is
a draw of the prior's N(0, t), t = t_k. Score ``partial`` (corrected) rates it by the target's
own distribution at that time, that of a Brownian bridge that ends in N(d, r^2):

    log N(c; t d, t^2 r^2 + t (1 - t)) - log N(c; 0, t);

``final``, the thesis's, by log N(c; d, r^2) from the first shard on, which overshoots.

Shards: ``equal``, t_k = k / K, or ``geometric``, t_k = (1 - rho^k) / (1 - rho^K) with
rho = 2^(-2 R / K), R the block's bits an element: each shard then brings equally much information,
also where the posterior is much narrower than 1 / sqrt(K).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from toolkit.options import Options
from toolkit.sampling.blocks.layout import Budget, LayoutCoder
from toolkit.sampling.blocks.layout_rates import RateLayouts
from toolkit.sampling.blocks.layout_sent import SentLayouts
from toolkit.sampling.blocks.sampler import BlockOptions, Blocks, BlockSampler, Target
from toolkit.sampling.coding.bits import Ints

_FIXED = 2.0**16
"""Scales of shards are rounded to 1 / this, so that sums of draws are exact in float64."""


class GreedyOptions(BlockOptions, frozen=True):
    rate: Annotated[float, Meta(ge=0.25, le=4.0)] = 1.1
    """Bits spent, as a multiple of the KL divergence: the best of 2^13 draws is worth about a
    fifth less than ideal coding; a tenth more bits, the most of them for the channels with the
    highest rates, save more distortion than they cost."""
    steps: Annotated[int, Meta(ge=1, le=64)] = 6
    """K: at most so many shards a block."""
    bits: Annotated[int, Meta(ge=1, le=16)] = 13
    """At most so many bits a shard."""
    score: Literal["partial", "final"] = "partial"
    """What a draw is rated by. ``partial``: how likely the target makes the sum up to this shard.
    ``final``, the thesis's: how likely it makes this sum as the block's value."""
    shards: Literal["geometric", "equal"] = "geometric"
    """Variances of the shards: each brings equally much information, or all are ``equal``."""
    width: Annotated[int, Meta(ge=1, le=65536)] = 512
    """At most so many latent elements a block."""
    blocks: Literal["rates", "sent"] = "rates"
    """``sent``: groups in raster order, their lengths sent, as in the thesis."""
    outlier: Annotated[float, Meta(gt=0, le=1024)] = 64.0
    """For ``sent``: latent elements with a KL of more bits are sent by value."""


class Greedy(BlockSampler[GreedyOptions]):
    """Greedy sampler; see the module."""

    options_class: ClassVar[type[Options]] = GreedyOptions

    def budget(self) -> Budget:
        return Budget(self.options.steps * self.options.bits, width=self.options.width)

    def layouts(self) -> LayoutCoder:
        if self.options.blocks == "rates":
            return RateLayouts(self.budget())
        return SentLayouts(self.budget(), self.options.bits, self.options.outlier)

    def widths(self, bits: int) -> list[int]:
        steps = max(1, -(-bits // self.options.bits))
        return [bits // steps + (k < bits % steps) for k in range(steps)]

    def scales(self, blocks: Blocks) -> NDArray[np.float64]:
        """Standard deviations of the shards, (n, K), multiples of 2^-16."""
        steps = len(self.widths(blocks.bits))
        shares = np.ones((len(blocks.numbers), steps))
        if self.options.shards == "geometric":
            per_latent = blocks.bits / np.maximum(blocks.lengths, 1)
            shares = np.exp2(-2 * per_latent / steps)[:, None] ** np.arange(steps)
        shares /= shares.sum(axis=1, keepdims=True)
        scales: NDArray[np.float64] = np.rint(np.sqrt(shares) * _FIXED) / _FIXED
        return scales

    def draw(self, blocks: Blocks, indices: Ints) -> NDArray[np.float64]:
        scales = self.scales(blocks)
        values = np.zeros((len(indices), blocks.width))
        for k in range(indices.shape[1]):
            values += scales[:, k, None] * blocks.draws(indices[:, k], stream=k)
        return values

    def choose(self, target: Target) -> Ints:
        return self.choose_all([target])[0]

    def choose_all(self, targets: list[Target]) -> list[Ints]:
        """Step by step, all shapes of blocks within a step, so that each codebook is made
        once and only one is held."""
        walks = [_Walk(self, target) for target in targets]
        for k in range(max((len(walk.widths) for walk in walks), default=0)):
            for walk in walks:
                if k < len(walk.widths):
                    walk.step(k, self.options.score)
        return [walk.indices for walk in walks]


class _Walk:
    """The partial sums of blocks of one shape."""

    def __init__(self, sampler: Greedy, target: Target) -> None:
        self.target = target
        self.widths = sampler.widths(target.bits)
        self.scales = sampler.scales(target)
        self.times = np.cumsum(self.scales**2, axis=1)
        self.sums = np.zeros(target.d.shape)
        self.indices = np.zeros((len(target.numbers), len(self.widths)), np.int64)

    def step(self, k: int, score: str) -> None:
        target = self.target
        s, c = self.scales[:, k, None], self.sums
        # a target wider than the prior has no best draw: it is taken for r = 1
        square = np.minimum(np.square(target.r, dtype=np.float64), 1)
        quadratic: NDArray[Any]
        if score == "partial":
            t = self.times[:, k, None]
            variance = t * t * square + t * np.maximum(1 - t, 0)
            quadratic = s * s / 2 * (1 / t - 1 / variance)
            linear = s * ((t * target.d - c) / variance + c / t)
        else:
            quadratic = -s * s / (2 * square)
            linear = s * (target.d - c) / square
        chosen = target.best(quadratic, linear, self.widths[k], stream=k)
        self.indices[:, k] = chosen
        self.sums = c + s * target.draws(chosen, stream=k)
