"""Weights w = Q / P of Gaussians Q = N(d, r^2) against P = N(0, 1), and what they leave over."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from toolkit.sampling.randomness import normal_table

Floats = NDArray[np.float64]

_NEAR_ONE = 1e-4
REACH = float(normal_table()[-1])
"""The farthest shared normal, 4.3."""


def off_one(r: Floats) -> Floats:
    """``r`` without values next to 1: log weights of r = 1 exactly are no quadratic function."""
    return np.where(np.abs(r - 1) < _NEAR_ONE, 1 - _NEAR_ONE, r)


def weights(d: Floats, r: Floats, x: Floats) -> Floats:
    """Q / P at x, at most e^700."""
    found: Floats = np.exp(np.minimum((x * x - ((x - d) / r) ** 2) / 2 - np.log(r), 700))
    return found


def heaviest(d: Floats, r: Floats) -> Floats:
    """Where, of all that shared normals reach, the weight is largest."""
    end = np.where(d < 0, -REACH, REACH)
    with np.errstate(divide="ignore", invalid="ignore"):
        top = np.where(r < 1, d / (1 - r * r), end)
    at: Floats = np.clip(np.where(np.isfinite(top), top, end), -REACH, REACH)
    return at


def largest_log2(d: Floats, r: Floats) -> Floats:
    """log2 of the largest weight of what shared normals reach. For r < 1 that is D_inf[Q || P],
    and 2 to it the mean number of draws that an exact sampler makes."""
    x = heaviest(d, r)
    found: Floats = ((x * x - ((x - d) / r) ** 2) / 2 - np.log(r)) / np.log(2)
    return found


def mass_left(d: Floats, r: Floats, s: Floats) -> Floats:
    """1 - int min(Q, s P) = Q(A) - s P(A), A being where Q > s P; r not next to 1."""
    a, b = (1 - 1 / (r * r)) / 2, d / (r * r)
    c = -np.log(r) - d * d / (2 * r * r) - np.log(s)
    square = b * b - 4 * a * c
    root = np.sqrt(np.maximum(square, 0))
    low, high = np.sort([(-b + root) / (2 * a), (-b - root) / (2 * a)], axis=0)
    q = ndtr((high - d) / r) - ndtr((low - d) / r)
    p = ndtr(high) - ndtr(low)
    inside = r < 1
    q, p = np.where(inside, q, 1 - q), np.where(inside, p, 1 - p)
    # no roots: A is empty, or everything for a Q that is wider than P (q = p = 1 above)
    left: Floats = np.maximum(np.where(inside & (square <= 0), 0, q - s * p), 0)
    return left
