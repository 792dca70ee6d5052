"""Codebooks of shared draws, and the search in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.sampling.coding.bits import Ints
from toolkit.sampling.contract import Array
from toolkit.sampling.randomness import SharedRandom

Noise = Callable[[int, int], Array]
"""(blocks, candidates) -> what to add to their log weights, float32 of that shape; called for
all blocks in their order, some at a time."""

_PAIRS = 2**21
"""Products held at a time where near-ties are settled."""


@dataclass(frozen=True)
class Book:
    """Candidates and their squares, both (count, width)."""

    draws: Array
    squares: Array


class Codebooks:
    """Codebooks of a level, made when asked for; the last stream's is kept."""

    def __init__(self, random: SharedRandom) -> None:
        self._random = random
        self._stream = -1
        self._draws = np.zeros((0, 0), np.float32)
        self._squares = self._draws

    def get(self, stream: int, count: int, width: int) -> Book:
        """Candidates 0 to count - 1 of a stream, (count, width)."""
        have = self._draws.shape if stream == self._stream else (0, 0)
        if have[0] < count or have[1] < width:
            count_, width_ = max(count, have[0]), max(width, have[1])
            self._draws = self._squares = np.zeros((0, 0), np.float32)
            self._draws = self._random.normals(stream, np.arange(count_), width_)
            self._squares = self._draws * self._draws
            self._stream = stream
        return Book(self._draws[:count, :width], self._squares[:count, :width])


def nearly_best(
    book: Book,
    quadratic: NDArray[np.floating[Any]],
    linear: NDArray[np.floating[Any]],
    noise: Noise | None,
) -> Ints:
    """Row of ``book`` with the largest ``quadratic . x^2 + linear . x`` (+ noise), for
    each row of ``quadratic`` and ``linear`` (n, width).

    The product is made in float32. Rows of the book within its rounding error of the best are
    summed again in float64 in a fixed order, so that the result doesn't depend on how a
    library for linear algebra cuts up its sums.
    """
    scores = quadratic.astype(np.float32) @ book.squares.T
    scores += linear.astype(np.float32) @ book.draws.T
    added = None if noise is None else noise(*scores.shape)
    if added is not None:
        scores += added
    best = scores.argmax(axis=1)
    top = scores[np.arange(len(best)), best]
    size = 16 * np.abs(quadratic).sum(axis=1) + 4 * np.abs(linear).sum(axis=1)
    slack = (2.0**-22 * size).astype(np.float32)
    if added is not None:
        slack += np.float32(2.0**-18)
    blocks, rows = np.nonzero(scores >= (top - slack)[:, None])
    ties = (np.bincount(blocks, minlength=len(best)) > 1) & (size > 0)
    among = ties[blocks]
    if among.any():
        _settle(best, blocks[among], rows[among], book, quadratic, linear, added)
    return best.astype(np.int64)


def _settle(
    best: NDArray[np.intp],
    blocks: NDArray[np.intp],
    rows: NDArray[np.intp],
    book: Book,
    quadratic: NDArray[np.floating[Any]],
    linear: NDArray[np.floating[Any]],
    added: Array | None,
) -> None:
    """Put into ``best`` the best of the pairs (block, row), the first of equals."""
    sums = np.empty(len(blocks))
    step = max(1, _PAIRS // quadratic.shape[1])
    for at in range(0, len(blocks), step):
        b, k = blocks[at : at + step], rows[at : at + step]
        x = book.draws[k].astype(np.float64)
        sums[at : at + step] = (x * (quadratic[b] * x + linear[b])).sum(axis=1)
    if added is not None:
        sums += added[blocks, rows]
    order = np.lexsort((rows, -sums, blocks))
    firsts = order[np.append(True, np.diff(blocks[order]) > 0)]
    best[blocks[firsts]] = rows[firsts]


def gumbel(generator: np.random.Generator) -> Noise:
    """Standard Gumbel noise: the largest of log weights + noise is a sample by weight."""

    def noise(blocks: int, candidates: int) -> Array:
        return -np.log(_gaps(generator, blocks, candidates))

    return noise


def arrivals(generator: np.random.Generator, thinned: bool) -> Noise:
    """``-log`` of the arrival times of a Poisson process, in order of the candidates.

    Candidate i of the block arrives at t_i, t_i - t_(i-1) standard exponential: the largest
    log weight - log t is a draw by the Poisson functional representation (Li and El Gamal
    2018). ``thinned``: gaps of N / (N - i + 1), so that the times are N sorted Gumbels:
    ordered random coding (Theis and Yosri 2022). Low numbers win more often in both.
    """

    def noise(blocks: int, candidates: int) -> Array:
        gaps = _gaps(generator, blocks, candidates)
        if thinned:
            gaps *= (candidates / np.arange(candidates, 0, -1)).astype(np.float32)
        return -np.log(np.cumsum(gaps, axis=1, dtype=np.float64)).astype(np.float32)

    return noise


def _gaps(generator: np.random.Generator, blocks: int, candidates: int) -> Array:
    # float32 exponentials can come out as 0, whose logarithm nobody wants
    tiny = np.float32(2.0**-60)
    return np.maximum(generator.standard_exponential((blocks, candidates), np.float32), tiny)
