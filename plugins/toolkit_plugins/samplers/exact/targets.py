"""What is to be drawn of each latent element: a Gaussian, or the part of one on an interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit_plugins.samplers.exact import weights
from toolkit_plugins.samplers.exact.weights import Floats


@dataclass(frozen=True)
class Targets:
    """N(d, r^2) on the interval from ``low`` to ``high``, in units of the proposal N(0, 1)."""

    d: Floats
    """(n,)"""
    r: Floats
    """(n,), positive, not next to 1"""
    low: Floats
    """(n,), -inf where there is no end"""
    high: Floats
    """(n,), inf where there is no end"""
    mass: Floats
    """(n,) probability of the interval under N(d, r^2)"""

    def __getitem__(self, which: NDArray[np.int64] | slice) -> Targets:
        """Those of some latent elements."""
        return Targets(*(values[which] for values in vars(self).values()))

    def largest_log(self) -> Floats:
        """The largest log weight of a shared normal, nats."""
        x = weights.heaviest(self.d, self.r, self.low, self.high)
        return weights.log_weights(self.d, self.r, x) - np.log(self.mass)

    def largest_bits(self) -> Floats:
        """The same in bits, D_inf; an exact sampler makes 2^D_inf draws on average."""
        return self.largest_log() / np.log(2)

    def polynomial(self) -> tuple[Floats, Floats, Floats]:
        """a, b, c of the log weight ``a x^2 + b x + c`` within the interval, nats."""
        precision = 1 / np.square(self.r)
        constant = -np.log(self.r) - self.d * self.d * precision / 2 - np.log(self.mass)
        return (1 - precision) / 2, self.d * precision, constant

    def log_inside(self, x: Floats) -> Floats:
        """For blocks of targets (n, length): 0 for x (n, count, length) within all intervals,
        -inf elsewhere; (n, count)."""
        outside = ((x < self.low[:, None]) | (x > self.high[:, None])).any(axis=2)
        return np.where(outside, -np.inf, 0.0)

    def padded(self) -> Targets:
        """With one more at the end, which is the proposal."""
        ends = (0.0, 1.0, -np.inf, np.inf, 1.0)
        return Targets(
            *(np.append(x, end) for x, end in zip(vars(self).values(), ends, strict=True))
        )
