"""Ordered random coding, and the Poisson functional representation (the distribution of A* coding).

As importance sampling, one of N = 2^(KL + t) draws of the prior is sent for each block; but the
noise that makes the choice random is sorted, so that low indices win more often and an entropy
coder makes use of it. With t_i the i-th arrival of a Poisson process, the choice is

    argmax_i log w(x_i) - log t_i,    w = q / p.

- ``poisson``: standard exponential gaps. With N large enough to be sure that no later draw could
  win, this is the Poisson functional representation (Li and El Gamal 2018), which A* coding
  (Flamich, Markou and Hernandez-Lobato 2022) searches for cleverly: an exact draw of q. Cut off
  at N it is nearly one.
- ``ordered``: gaps scaled by N / (N - i + 1), which makes the t_i sorted noise for exactly N
  draws: the sample has the distribution of importance sampling (Theis and Yosri 2022).

Indices are coded by their logarithm, whose frequencies are sent, and raw bits: close to the
Zipf distribution that both papers use.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from msgspec import Meta

from toolkit.options import Options
from toolkit.sampling.blocks.codebook import arrivals
from toolkit.sampling.blocks.layout import Budget, LayoutCoder
from toolkit.sampling.blocks.layout_rates import RateLayouts
from toolkit.sampling.blocks.sampler import SIGNS, BlockOptions, Blocks, BlockSampler, Target
from toolkit.sampling.coding.bits import BitReader, BitWriter, Ints
from toolkit.sampling.coding.integers import read_indices, write_indices
from toolkit.sampling.contract import Array

_MASKS = SIGNS + 2**20


class OrderedOptions(BlockOptions, frozen=True):
    bits: Annotated[int, Meta(ge=1, le=20)] = 14
    """At most 2^bits draws a block."""
    slack: Annotated[int, Meta(ge=0, le=8)] = 2
    """t: a block has 2^(KL + t) draws."""
    width: Annotated[int, Meta(ge=1, le=65536)] = 256
    """At most so many latent elements a block."""


class Ordered(BlockSampler[OrderedOptions]):
    """Ordered random coding; see the module."""

    options_class: ClassVar[type[Options]] = OrderedOptions
    times: ClassVar[Literal["ordered", "poisson"]] = "ordered"

    def budget(self) -> Budget:
        o = self.options
        return Budget(o.bits, width=o.width, slack=min(o.slack, o.bits - 1))

    def layouts(self) -> LayoutCoder:
        return RateLayouts(self.budget(), mean=False)

    def choose(self, target: Target) -> Ints:
        masks = self._masks(target)
        in_order = arrivals(target.private(), thinned=self.times == "ordered")
        at = 0

        def noise(blocks: int, candidates: int) -> Array:
            nonlocal at
            places = np.arange(candidates) ^ masks[at : at + blocks, None]
            at += blocks
            return np.take_along_axis(in_order(blocks, candidates), places, axis=1)

        best = target.best(*target.log_weights(), target.bits, noise=noise)
        return (best ^ masks)[:, None]

    def draw(self, blocks: Blocks, indices: Ints) -> Array:
        return blocks.draws(indices[:, 0] ^ self._masks(blocks))

    @staticmethod
    def _masks(blocks: Blocks) -> Ints:
        """Of each block: its draw i is candidate i ^ mask. Else the few first candidates would
        win in most blocks, and blocks wouldn't be independent."""
        words = blocks.random.words(_MASKS, blocks.numbers, 1)[:, 0]
        return words.astype(np.int64) & ((1 << blocks.bits) - 1)

    def write_indices(self, writer: BitWriter, indices: Ints, widths: Ints) -> None:
        write_indices(writer, indices, widths)

    def read_indices(self, reader: BitReader, widths: Ints) -> Ints:
        return read_indices(reader, widths)


class Poisson(Ordered):
    """Poisson functional representation, cut off; see the module."""

    times = "poisson"
