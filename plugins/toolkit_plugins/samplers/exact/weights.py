"""Weights w = Q / P of Gaussians Q = N(d, r^2) against P = N(0, 1), and what they leave over.

Everything is elementwise over latent elements, in float64. ``crossings`` and ``log_weights`` serve
arrays and, compiled, single numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from toolkit.sampling.randomness import TABLE_BITS, normal_table

Floats = NDArray[np.float64]

_NEAR_ONE = 1e-4
REACH = float(ndtri(1 - 0.5**TABLE_BITS))
"""Where the table's last cell begins, 4.2: what lies beyond has one shared normal for all."""


def off_one(r: Floats) -> Floats:
    """``r`` without values next to 1: log weights of r = 1 exactly are no quadratic function."""
    return np.where(np.abs(r - 1) < _NEAR_ONE, 1 - _NEAR_ONE, r)


def log_weights(d: Any, r: Any, x: Any) -> Any:
    """log Q / P at x, in nats; of arrays, or, compiled, of numbers."""
    return (x * x - ((x - d) / r) ** 2) / 2 - np.log(r)


def weights(d: Floats, r: Floats, x: Floats) -> Floats:
    """Q / P at x, at most e^700."""
    return np.exp(np.minimum(log_weights(d, r, x), 700))


def heaviest(d: Floats, r: Floats, low: Floats, high: Floats) -> Floats:
    """Where, of the shared normals between ``low`` and ``high``, the weight is largest."""
    table = normal_table()
    low = table[np.minimum(np.searchsorted(table, low), len(table) - 1)].astype(np.float64)
    high = table[np.maximum(np.searchsorted(table, high, "right") - 1, 0)].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        peak = d / (1 - r * r)
    # for r >= 1 the logarithm is convex, or linear: one of the ends
    end = np.where(log_weights(d, r, low) > log_weights(d, r, high), low, high)
    at: Floats = np.where(r < 1, np.clip(np.where(np.isfinite(peak), peak, end), low, high), end)
    return at


def crossings(d: Any, r: Any, s: Any) -> Any:
    """The two points where w = s; twice the vertex where there are none. r not next to 1; of
    arrays, or, compiled, of numbers.

    Between them w > s for r < 1, and w < s for r > 1.
    """
    a, b = (1 - 1 / (r * r)) / 2, d / (r * r)
    c = -np.log(r) - d * d / (2 * r * r) - np.log(s)
    root = np.sqrt(np.maximum(b * b - 4 * a * c, 0.0)) / np.abs(2 * a)
    return -b / (2 * a) - root, -b / (2 * a) + root


_log_weight = numba.njit(log_weights, cache=True)
_crossings = numba.njit(crossings, cache=True)


@numba.njit(cache=True)
def _below(x):  # type: ignore[no-untyped-def]
    """N(0, 1) below x."""
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


@numba.njit(cache=True)
def _mass(d, r, low, high):  # type: ignore[no-untyped-def]
    low, high = (low - d) / r, (high - d) / r
    if low > 0:  # precise in both tails
        low, high = -high, -low
    return _below(high) - _below(low)


@numba.njit(cache=True)
def _mass_left(d, r, s, low, high):  # type: ignore[no-untyped-def]
    first, last = _crossings(d, r, s)
    first, last = min(max(first, low), high), min(max(last, low), high)
    q, p = _mass(d, r, first, last), _mass(0.0, 1.0, first, last)
    if r > 1:
        q, p = _mass(d, r, low, high) - q, _mass(0.0, 1.0, low, high) - p
    return max(q - s * p, 0.0)


@numba.vectorize(cache=True)  # type: ignore[no-untyped-call]
def mass(d, r, low, high):  # type: ignore[no-untyped-def]
    """Q between ``low`` and ``high``; precise in both tails."""
    return _mass(d, r, low, high)


@numba.vectorize(cache=True)  # type: ignore[no-untyped-call]
def mass_left(d, r, s, low, high):  # type: ignore[no-untyped-def]
    """The integral of (Q - s P)^+ from ``low`` to ``high``; r not next to 1."""
    return _mass_left(d, r, s, low, high)


@numba.njit(cache=True, nogil=True)
def first_accepted(draws, uniforms, targets, state, least, found):  # type: ignore[no-untyped-def]
    """Greedy rejection sampling (Harsha et al. 2007) of latent elements by themselves.

    Arguments:
        draws, uniforms: proposals' draws and uniform numbers, (n, count).
        targets: d, r, low, high, mass and largest weight of each element, (n, 6): Q is
            N(d, r^2) on the interval, of which it has that mass.
        state: S and what is left of Q of each element, (n, 2); goes on from call to call.
        least: so much of Q is let go.
        found: gets the first draw that is accepted of each, or -1, (n,).
    """
    for i in range(draws.shape[0]):
        d, r, low, high, part, largest = targets[i]
        sums, left = state[i]
        found[i] = -1
        for k in range(draws.shape[1]):
            x = draws[i, k]
            weight = math.exp(_log_weight(d, r, x)) / part if low <= x <= high else 0.0
            # no draw can come that has more than S: what is left is spread over Q
            spent = sums >= largest or left <= least
            beta = weight / largest if spent else (weight - sums) / left
            if uniforms[i, k] < beta:
                found[i] = k
                break
            sums += left
            left = _mass_left(d, r, sums * part, low, high) / part
        state[i, 0], state[i, 1] = sums, left
