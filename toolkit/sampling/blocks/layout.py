"""How a level is cut into blocks: the order of its latents, block lengths, bits of each block.

A layout is known to encoder and decoder alike. ``layout_rates`` derives it from rates of
channels, ``layout_sent`` sends it block by block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.sampling.coding.bits import Ints, bit_length


@dataclass(frozen=True)
class Budget:
    """How much a block may hold."""

    bits: int
    """At most so many bits of indices."""
    width: int = 1024
    """At most so many latents."""
    slack: int = 0
    """Bits that a block gets beyond its rate (t of K = 2^(KL + t))."""
    mean: bool = True
    """Whether latents of channels without a rate are 0, the prior's mean, not draws of it."""
    sent: bool = False
    """Whether blocks are sent one by one, not derived from rates of channels."""
    step: int = 1
    """Where blocks are sent: their bits are multiples of this."""
    outlier: float = 12.0
    """Where blocks are sent: latents with a KL above this, in bits, are sent by value."""


@dataclass(frozen=True)
class Layout:
    """Blocks over a level of ``len(base)`` latents."""

    base: NDArray[np.float32]
    """What is known without any block: shifts of escapes, values of channels without a rate."""
    order: Ints
    """The latents that are in blocks, block after block."""
    lengths: Ints
    """Of each block, in latents."""
    bits: Ints
    """Of each block, for all its indices."""
    digits: int = 4
    """Significant bits of the widths that blocks are filled up to: few make few batches."""

    def batches(self) -> list[tuple[Ints, Ints, int]]:
        """Blocks of equal bits and (rounded-up) width: their numbers (n,), the latents in
        them (n, width), ``len(base)`` standing for none, and their bits. Widest first."""
        widths = round_up(self.lengths, self.digits)
        starts = np.cumsum(self.lengths) - self.lengths
        padded = np.append(self.order, np.full(int(widths.max(initial=0)), len(self.base)))
        keys = widths * (1 << 20) + self.bits
        result = []
        for key in np.unique(keys)[::-1]:
            numbers = np.flatnonzero(keys == key)
            columns = np.arange(int(key) >> 20)
            latents = padded[starts[numbers, None] + columns]
            latents[columns >= self.lengths[numbers, None]] = len(self.base)
            result.append((numbers, latents, int(key) & ((1 << 20) - 1)))
        return result


def round_up(widths: Ints, digits: int) -> Ints:
    """The next width with at most so many significant bits."""
    step = np.int64(1) << np.maximum(bit_length(widths) - digits, 0)
    return -(-widths // step) * step


def round_down(width: int, digits: int) -> int:
    """The previous width with at most so many significant bits."""
    step = max(width.bit_length() - digits, 0)
    return width >> step << step
