"""Coded samplers: the contract between a ladder of Gaussians and whatever codes samples of it.

A sampler sees one level of the ladder in units of its prior: targets ``N(d, r^2)`` and the
proposal ``N(0, 1)`` for every latent element, as arrays (C, H, W). It sends which draw of the
shared random numbers it picked. It never sees a network; the network never sees it: what comes
back is ``c``, and the network goes on with ``mu_p + s_p c``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Generic

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypeVar

from toolkit.errors import UsageError
from toolkit.options import Options
from toolkit.sampling.randomness import SharedRandom

Array = NDArray[np.float32]
OptionsT = TypeVar("OptionsT", bound=Options, default=Any)


@dataclass(frozen=True)
class CodedSample:
    """A coded level."""

    data: bytes
    """The stream; all that the decoder gets besides shape, seed and options."""
    values: Array
    """The sample c, float32, shaped as the target: bit for bit what the decoder makes."""
    side_bits: float = 0.0
    """Of the stream: bits that aren't indices of draws (rates, block sizes, outliers)."""


class Sampler(ABC, Generic[OptionsT]):
    """Base class of coded samplers.

    A subclass names its option class twice, ``class Mine(Sampler[MineOptions])`` for the type
    checker and ``options_class = MineOptions`` for whoever parses options. Everything that the
    decoder needs comes from its options, the shape, the shared random numbers and ``data``;
    nothing may be derived again from d, r or any other float that the decoder would have to
    agree on.
    """

    options_class: ClassVar[type[Options]] = Options
    exact: bool = False
    """Whether the sample is distributed exactly as the target (up to the 16-bit resolution of
    the shared normals)."""

    def __init__(self, options: OptionsT) -> None:
        self.options = options

    @abstractmethod
    def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
        """Code a sample of the level.

        Arguments:
            d: means of the targets N(d, r^2), float32 (C, H, W), in units of the proposal N(0, 1).
            r: their scales, above 0, of the same shape.
            random: the shared random numbers of this level of this file.

        Returns:
            The stream, and the sample that the decoder makes of it.

        Raises:
            UsageError: for targets that aren't finite.
        """

    def encode_in_place(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
        """As ``encode``; d and r, which take much in large pictures, may be written over."""
        return self.encode(d, r, random)

    @abstractmethod
    def decode(self, data: bytes, shape: tuple[int, int, int], random: SharedRandom) -> Array:
        """The sample that ``data`` codes, in time bounded by its length and the shape.

        Arguments:
            data: the stream, all of it.
            shape: (C, H, W) of the level.
            random: as the encoder had it.

        Returns:
            The sample, float32, of this shape.

        Raises:
            BadStream: for data that no encoder wrote.
        """

    def identity(self) -> dict[str, Any]:
        """What, beside the options, streams depend on: hashes of tables that aren't sent."""
        return {}


def check_targets(d: Array, r: Array) -> None:
    """Raises UsageError for targets that aren't finite, or have no width."""
    if not (np.isfinite(d).all() and np.isfinite(r).all() and (r > 0).all()):
        raise UsageError("targets must be finite, their scales positive")


def kl_bits(d: Array, r: Array) -> NDArray[np.float64]:
    """KL[N(d, r^2) || N(0, 1)] of each latent element, in bits; shaped as ``d`` and ``r``."""
    d64, r64 = d.astype(np.float64), r.astype(np.float64)
    return (0.5 * (d64 * d64 + r64 * r64 - 1) - np.log(r64)) / np.log(2)
