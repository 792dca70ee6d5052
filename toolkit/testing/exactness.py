"""Whether numbers can be draws from N(0, 1): the tests of the conformance kit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Z_LIMIT = 4.5
"""Standard errors; an exact sampler passes this once in 150,000 tests."""
P_LIMIT = 1e-5


def deviation(draws: NDArray[np.float64], seed: int) -> str:
    """What is wrong with ``draws`` (n), empty if nothing is.

    Mean, variance, correlation of neighbours, and a two-sample Kolmogorov-Smirnov test against
    as many independent draws.
    """
    from scipy.stats import ks_2samp

    count = len(draws)
    mean, variance = float(draws.mean()), float(draws.var())
    if abs(mean) > Z_LIMIT / np.sqrt(count):
        return f"its mean is off by {mean:+.3f} of the target's width"
    if abs(variance - 1) > Z_LIMIT * np.sqrt(2 / count):
        return f"its variance is {variance:.3f} times the target's"
    for lag in (1, 2):
        correlation = float(np.mean(draws[lag:] * draws[:-lag]))
        if abs(correlation) > Z_LIMIT / np.sqrt(count):
            return f"draws {lag} apart are correlated by {correlation:+.3f}"
    reference = np.random.default_rng([seed, 4]).standard_normal(count)
    p = float(ks_2samp(draws, reference).pvalue)
    if p < P_LIMIT:
        return f"its distribution differs from the target's (two-sample test, p = {p:.1e})"
    return ""
