"""How a level is cut into blocks: the order of its elements, block lengths, bits of each block.

A layout is known to encoder and decoder alike. How it gets to the decoder is a ``LayoutCoder``'s
matter: ``RateLayouts`` derives it from rates of channels, ``SentLayouts`` sends it block by block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.sampling.coding.bits import BitReader, BitWriter, Ints, bit_length
from toolkit.sampling.contract import Array
from toolkit.sampling.randomness import SharedRandom


@dataclass(frozen=True)
class Budget:
    """How much a block may hold."""

    bits: int
    """At most so many bits of indices."""
    width: int = 1024
    """At most so many latent elements."""
    slack: int = 0
    """Bits that a block gets beyond its rate (t of K = 2^(KL + t))."""


@dataclass(frozen=True)
class Layout:
    """Blocks over a level of ``len(base)`` latent elements."""

    base: NDArray[np.float32]
    """What is known without any block: shifts of outliers, values of channels without a rate."""
    order: Ints
    """The elements that are in blocks, block after block."""
    lengths: Ints
    """Of each block, in elements."""
    bits: Ints
    """Of each block, for all its indices."""
    digits: int = 4
    """Significant bits of the widths that blocks are filled up to: few make few batches."""

    def batches(self) -> list[tuple[Ints, Ints, int]]:
        """Blocks of equal bits and (rounded-up) width: their numbers (n,), the elements in
        them (n, width), ``len(base)`` standing for none, and their bits. Widest first."""
        widths = round_up(self.lengths, self.digits)
        starts = np.cumsum(self.lengths) - self.lengths
        padded = np.append(self.order, np.full(int(widths.max(initial=0)), len(self.base)))
        keys = widths * (1 << 20) + self.bits
        result = []
        for key in np.unique(keys)[::-1]:
            numbers = np.flatnonzero(keys == key)
            columns = np.arange(int(key) >> 20)
            elements = padded[starts[numbers, None] + columns]
            elements[columns >= self.lengths[numbers, None]] = len(self.base)
            result.append((numbers, elements, int(key) & ((1 << 20) - 1)))
        return result


class LayoutCoder(ABC):
    """Chooses layouts for the encoder, and reads them for the decoder."""

    @abstractmethod
    def write(
        self, writer: BitWriter, d: Array, r: Array, multiple: float, random: SharedRandom
    ) -> Layout:
        """Send what a decoder needs to know about the layout for some targets.

        Arguments:
            writer: gets the side information.
            d, r: the targets' means and scales, (C, H, W).
            multiple: bits that blocks get, as a multiple of their KL divergence.
            random: the shared random numbers of the level.
        """

    @abstractmethod
    def read(self, reader: BitReader, shape: tuple[int, int, int], random: SharedRandom) -> Layout:
        """The layout that ``write`` made for targets of this shape. Raises BadStream."""


def round_up(widths: Ints, digits: int) -> Ints:
    """The next width with at most so many significant bits."""
    step = np.int64(1) << np.maximum(bit_length(widths) - digits, 0)
    return -(-widths // step) * step


def round_down(width: int, digits: int) -> int:
    """The previous width with at most so many significant bits."""
    step = max(width.bit_length() - digits, 0)
    return width >> step << step
