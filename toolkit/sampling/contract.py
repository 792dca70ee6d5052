"""Coded samplers: the contract between a ladder of Gaussians and whatever codes samples of it.

A sampler sees one level of the ladder in units of its prior: targets ``N(d, r^2)`` and the
proposal ``N(0, 1)`` for every latent, as arrays (C, H, W). It sends which draw of the shared
random numbers it picked. It never sees a network; the network never sees it: what comes back
is ``c``, and the network goes on with ``mu_p + s_p c``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from toolkit.options import Options
from toolkit.sampling.randomness import SharedRandom

Array = NDArray[np.float32]


@dataclass(frozen=True)
class CodedSample:
    """A coded level."""

    data: bytes
    """The stream; all that the decoder gets besides shape, seed and options."""
    values: Array
    """The sample c, float32, shaped as the target: bit for bit what the decoder makes."""
    side_bits: float = 0.0
    """Of the stream: bits that aren't indices of draws (rates, block sizes, escapes)."""


class Sampler(ABC):
    """Base class of coded samplers.

    A subclass sets ``options_class``. Everything that the decoder needs comes from its options,
    the shape, the shared random numbers and ``data``; nothing may be derived again from d, r
    or any other float that the decoder would have to agree on.
    """

    options_class: ClassVar[type[Options]] = Options
    exact: ClassVar[bool] = False
    """Whether the sample is distributed exactly as the target (up to the 16-bit resolution of
    the shared normals)."""

    def __init__(self, options: Any) -> None:
        self.options = options

    @abstractmethod
    def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
        """Code a sample of N(d, r^2), proposal N(0, 1); d and r (C, H, W), r > 0."""

    @abstractmethod
    def decode(self, data: bytes, shape: tuple[int, int, int], random: SharedRandom) -> Array:
        """The sample that ``data`` codes, float32, of this shape.

        Raises ``container.BadStream`` for data that no encoder wrote, and takes time bounded
        by the shape and the length of the data whatever they hold.
        """

    def identity(self) -> dict[str, Any]:
        """What, beside the options, streams depend on: hashes of tables that aren't sent."""
        return {}


def kl_bits(d: Array, r: Array) -> NDArray[np.float64]:
    """KL[N(d, r^2) || N(0, 1)] of each latent, in bits."""
    d64, r64 = d.astype(np.float64), r.astype(np.float64)
    return (0.5 * (d64 * d64 + r64 * r64 - 1) - np.log(r64)) / np.log(2)
