"""How good a coded sample is: bits and distortion in one number.

A sampler may spend more bits than the KL divergence, and what it picks may fit the target
worse (or better) than an exact draw. Both count, in bits, through the evidence lower bound: to
it, a value ``c`` is worth its log importance weight ``log2 q(c) / p(c)``, of which an exact
draw has KL on average.

Everything is in units of the prior: target ``N(d, r^2)``, proposal ``N(0, 1)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.sampling.contract import Array, kl_bits


@dataclass(frozen=True)
class FigureOfMerit:
    """Figures of one coded level."""

    kl_bits: float
    """KL[q || p] of the level, in bits."""
    bits: float
    """Bits sent, all side information counted."""
    excess_bits: float
    """Distortion over that of an exact posterior sample, in bits."""

    @property
    def rate_percent(self) -> float:
        """100 (bits - KL) / KL; NaN where the KL is 0."""
        return 100 * (self.bits - self.kl_bits) / self.kl_bits if self.kl_bits else math.nan

    @property
    def excess_percent(self) -> float:
        """100 excess / KL; NaN where the KL is 0."""
        return 100 * self.excess_bits / self.kl_bits if self.kl_bits else math.nan

    @property
    def j_percent(self) -> float:
        """J: bits over KL plus excess distortion in bits, as per cent of KL."""
        return self.rate_percent + self.excess_percent


def log_weight_bits(d: Array, r: Array, values: Array) -> NDArray[np.float64]:
    """``log2 q(c) / p(c)`` of each latent element; its mean over q is the KL divergence."""
    d64, r64, c = (np.asarray(x, np.float64) for x in (d, r, values))
    standard = (c - d64) / r64
    nats: NDArray[np.float64] = 0.5 * (c * c - standard * standard) - np.log(r64)
    return nats / math.log(2)


def excess_bits(d: Array, r: Array, values: Array) -> float:
    """``sum 1/2 p ((c - m)^2 - E_q[(c - m)^2]) / ln 2``, p = 1/r^2 - 1, m = d / (1 - r^2).

    The part of the evidence lower bound that ``values`` lose against an exact sample: KL less
    their log importance weight. 0 on average for exact samples, negative for values that lean
    towards where the target exceeds the proposal most.
    """
    return float(np.sum(kl_bits(d, r) - log_weight_bits(d, r, values)))


def figure_of_merit(d: Array, r: Array, values: Array, bits: float) -> FigureOfMerit:
    """The figures of a coded level.

    Arguments:
        d, r: the targets N(d, r^2), (C, H, W), in units of the prior.
        values: the sample that was coded, (C, H, W).
        bits: what its stream takes, all side information counted.
    """
    kl = float(np.sum(kl_bits(d, r)))
    return FigureOfMerit(kl_bits=kl, bits=float(bits), excess_bits=excess_bits(d, r, values))
