"""iREC: importance samples of auxiliary variables, found by beam search.

Flamich, Havasi and Hernandez-Lobato 2020 ("Compressing images by encoding their latent
representations with relative entropy coding"). A block's value is a sum of shards, as in greedy
sampling, each a draw of its own small codebook; the distribution that partial sums are
rated by is the target's own at that time (their q(a_1:k); see ``greedy``). Of all partial sums
the ``beam`` best are kept: with a beam of 1 this is greedy sampling, and a wide beam makes up
for small codebooks.

    log N(c; t d, t^2 r^2 + t (1 - t)) - log N(c; 0, t)

The paper learns the variances of the auxiliary variables from data; here they fall
geometrically, each shard bringing equally much of the block's rate.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from toolkit.options import Options
from toolkit.sampling.blocks.sampler import BlockOptions, Target
from toolkit.sampling.coding.bits import Ints
from toolkit_plugins.samplers.greedy import Greedy, GreedyOptions

_SCORES = 2**23


class IRECOptions(BlockOptions, frozen=True):
    rate: Annotated[float, Meta(ge=0.25, le=4.0)] = 1.1
    """Bits spent, as a multiple of the KL divergence; see ``greedy``."""
    steps: Annotated[int, Meta(ge=1, le=64)] = 12
    """At most so many auxiliary variables a block."""
    bits: Annotated[int, Meta(ge=1, le=10)] = 8
    """At most so many bits each. The paper has 3 nats; with blocks whose elements differ in rate,
    fewer and larger codebooks lose much less."""
    beam: Annotated[int, Meta(ge=1, le=4096)] = 32
    """Partial sums kept."""
    width: Annotated[int, Meta(ge=1, le=65536)] = 512
    """At most so many latent elements a block."""


class IREC(Greedy):
    """iREC; see the module. Decodes as greedy sampling does."""

    options_class: ClassVar[type[Options]] = IRECOptions

    def __init__(self, options: IRECOptions) -> None:
        super().__init__(
            GreedyOptions(
                rate=options.rate, steps=options.steps, bits=options.bits, width=options.width
            )
        )
        self.beam = options.beam

    def choose_all(self, targets: list[Target]) -> list[Ints]:
        return [self.choose(target) for target in targets]

    def choose(self, target: Target) -> Ints:
        widths = self.widths(target.bits)
        per_block = (self.beam << max(widths)) + self.beam * target.width
        size = max(1, _SCORES // per_block)
        parts = [
            self._search(target.part(at, at + size), widths)
            for at in range(0, len(target.numbers), size)
        ]
        return np.concatenate(parts)

    def _search(self, target: Target, widths: list[int]) -> Ints:
        """The best path of each block, (n, steps)."""
        n, width = target.d.shape
        scales = self.scales(target)
        times = np.cumsum(scales**2, axis=1)
        d = target.d[:, None].astype(np.float64)
        square = np.minimum(np.square(target.r, dtype=np.float64), 1)[:, None]
        sums = np.zeros((n, 1, width))
        paths = np.zeros((n, 1, 0), np.int64)
        for k, bits in enumerate(widths):
            s, t = scales[:, k, None, None], times[:, k, None, None]
            variance = t * t * square + t * np.maximum(1 - t, 0)
            curvature = (1 / t - 1 / variance) / 2
            slope = t * d / variance
            scores = self._scores(target, curvature, slope, sums, s, bits, k)
            chosen = _largest(scores.reshape(n, -1), self.beam)
            parents, indices = chosen >> bits, chosen & ((1 << bits) - 1)
            rows = np.arange(n)[:, None]
            draws = target.random.normals(k, indices.reshape(-1), width).reshape(n, -1, width)
            sums = sums[rows, parents] + s * draws * target.signs(k)[:, None]
            paths = np.concatenate([paths[rows, parents], indices[:, :, None]], axis=2)
        return paths[:, 0]

    @staticmethod
    def _scores(
        target: Target,
        curvature: NDArray[np.float64],
        slope: NDArray[np.float64],
        sums: NDArray[np.float64],
        s: NDArray[np.float64],
        bits: int,
        stream: int,
    ) -> NDArray[np.float64]:
        """Of all continuations, (n, beam, candidates): curvature . c^2 + slope . c."""
        book = target.books.get(stream, 1 << bits, target.width)
        quadratic = (s * s * curvature)[:, 0]
        linear = s * (2 * curvature * sums + slope) * target.signs(stream)[:, None]
        before = (sums * (curvature * sums + slope)).sum(axis=2)
        scores = (quadratic.astype(np.float32) @ book.squares.T)[:, None].astype(np.float64)
        scores = scores + linear.astype(np.float32) @ book.draws.T
        return scores + before[:, :, None]


def _largest(scores: NDArray[np.float64], count: int) -> Ints:
    """Columns of the ``count`` largest of each row (all where there are fewer), best first.

    Scores are compared in steps of 2^-10, the first of equals first, so that rounding errors of
    the product hardly ever change the choice.
    """
    fixed = np.rint(scores * -1024)
    count = min(count, fixed.shape[1])
    if count < fixed.shape[1]:
        within = np.sort(np.argpartition(fixed, count - 1, axis=1)[:, :count], axis=1)
    else:
        within = np.broadcast_to(np.arange(count), fixed.shape)
    order = np.argsort(np.take_along_axis(fixed, within, axis=1), axis=1, kind="stable")
    return np.take_along_axis(within, order, axis=1)
