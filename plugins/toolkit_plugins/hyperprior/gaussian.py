"""Networks whose latent y is Gaussian given a hyper-latent z, in units of the quantizer's step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit_plugins.hyperprior.coder import Floats, HyperTables, Integers, ScaleTable

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels


@dataclass(frozen=True)
class Latents:
    """What the analysis makes of a picture."""

    y: Floats
    """(C, h, w), in steps of the quantizer."""
    z: Integers
    """(N, h', w'), rounded, counted from the channel's median."""


@dataclass(frozen=True)
class Prior:
    """Of y given z: N(mean, scale^2), in steps of the quantizer, (C, h, w) each."""

    mean: Floats
    scale: Floats


class GaussianModel(ABC):
    """One network at one rate.

    ::

        x -> analysis -> y -> hyper-analysis -> z -> hyper-synthesis -> p(y | z) = N(mean, scale^2)
                         y -> (rounding, dither or a coded sample) -> synthesis -> x_hat
    """

    fingerprint: bytes
    tables: HyperTables
    scales: ScaleTable
    """What scales are rounded to for entropy coding."""

    @abstractmethod
    def latents(self, rgb: Pixels) -> Latents:
        """Analyse uint8 (H, W, 3) of any size."""

    @abstractmethod
    def hyper_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """The shape of z for a picture of this size."""

    @abstractmethod
    def prior(self, z: Integers, height: int, width: int) -> Prior:
        """p(y | z), computed in float64 by one thread: as good as the same everywhere."""

    @abstractmethod
    def picture(
        self, y: Floats, height: int, width: int, precision: str = "float32", threads: int = 1
    ) -> Pixels:
        """Synthesis, uint8 (height, width, 3). Raises ValueError for values that aren't finite."""
