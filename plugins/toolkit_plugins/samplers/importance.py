"""Importance sampling on blocks.

Havasi et al. 2019 (MIRACLE), as algorithm 5 of the thesis: of K = 2^(KL + t) draws x_i of the
prior, send the index of one that is drawn with probability proportional to its weight
w_i = q(x_i) / p(x_i). In units of the prior,

    log w(x) = sum_j 1/2 (1 - 1/r_j^2) x_j^2 + (d_j / r_j^2) x_j + const.

Corrected against the text: draws come from the prior P, not from Q; K is rounded up; bits and
nats aren't mixed. ``argmax`` takes the largest weight: biased towards the target's peak
relative to the prior, which for a decoder is the better place to be.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from toolkit.sampling.blocks.codebook import gumbel
from toolkit.sampling.blocks.layout import Budget, LayoutCoder
from toolkit.sampling.blocks.layout_rates import RateLayouts
from toolkit.sampling.blocks.layout_sent import SentLayouts
from toolkit.sampling.blocks.sampler import BlockOptions, BlockSampler, Target
from toolkit.sampling.coding.bits import Ints

_BOOK = 2**24
"""Most draws in a codebook."""


class ImportanceOptions(BlockOptions, frozen=True):
    bits: Annotated[int, Meta(ge=1, le=20)] = 16
    """At most so many bits an index."""
    slack: Annotated[int, Meta(ge=0, le=8)] = 0
    """t: bits of the index beyond the block's rate."""
    choice: Literal["argmax", "sampled"] = "argmax"
    """``argmax``: the draw of the largest weight, nearer the target's mean than a sample is.
    ``sampled``: one drawn in proportion to the weights, as the method is defined."""
    width: Annotated[int, Meta(ge=1, le=65536)] = 512
    """G: at most so many latent elements a block."""
    blocks: Literal["rates", "sent"] = "rates"
    """``sent``: the thesis's adaptive groups (algorithm 3)."""
    outlier: Annotated[float, Meta(gt=0, le=64)] = 12.0
    """For ``sent``: latent elements with a KL of more bits are sent by value."""


class Importance(BlockSampler[ImportanceOptions]):
    """Importance sampler; see the module."""

    options_class = ImportanceOptions

    def budget(self) -> Budget:
        o = self.options
        return Budget(
            o.bits,
            width=min(o.width, _BOOK >> o.bits),
            slack=min(o.slack, o.bits - 1),
        )

    def layouts(self) -> LayoutCoder:
        if self.options.blocks == "rates":
            return RateLayouts(self.budget(), mean=self.options.choice == "argmax")
        return SentLayouts(self.budget(), outlier=self.options.outlier)

    def choose(self, target: Target) -> Ints:
        quadratic, linear = target.log_weights()
        noise = None
        if self.options.choice == "argmax":
            # weights of r > 1 have no largest value: such a target is taken for r = 1
            quadratic = np.minimum(quadratic, 0)
        else:
            noise = gumbel(target.private())
        return target.best(quadratic, linear, target.bits, noise=noise)[:, None]
