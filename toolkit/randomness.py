"""Shared randomness: numbers that encoder and decoder both can make, in any order.

Counter-based (Philox4x32-10; Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"):
every number is a function of its address (seed, level, stream, row, column), so a decoder makes
just the draws that were chosen. Raw bits become normals through a table of quantiles in fixed
point, so that they are the same bits on every machine; a test pins the table by its hash.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

TABLE_BITS = 16
FIXED_POINT = 2.0**-16
"""Normals are multiples of this."""

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


@numba.njit(cache=True, nogil=True, inline="always")
def _philox(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """Four 32-bit words (as uint64) of Philox4x32-10."""
    for _ in range(10):
        p0 = _M0 * c0
        p1 = _M1 * c2
        c0, c1, c2, c3 = (
            (p1 >> _HALF) ^ c1 ^ k0,
            p1 & _LOW,
            (p0 >> _HALF) ^ c3 ^ k1,
            p0 & _LOW,
        )
        k0 = (k0 + _W0) & _LOW
        k1 = (k1 + _W1) & _LOW
    return c0, c1, c2, c3


@numba.njit(cache=True, nogil=True)
def _words(out, rows, stream, k0, k1):  # type: ignore[no-untyped-def]
    """Fill ``out`` (n, 4 m), uint32: row i holds words of the address (stream, rows[i])."""
    for i in range(out.shape[0]):
        row = rows[i]
        for j in range(out.shape[1] // 4):
            w = _philox(
                np.uint64(j), row & _LOW, row >> _HALF, np.uint64(stream), np.uint64(k0),
                np.uint64(k1),
            )  # fmt: skip
            for k in range(4):
                out[i, 4 * j + k] = np.uint32(w[k])


@numba.njit(cache=True, nogil=True)
def _normals(out, rows, stream, k0, k1, table):  # type: ignore[no-untyped-def]
    """Fill ``out`` (n, width), float32, two normals a word, low half first."""
    width = out.shape[1]
    half = np.uint64(16)
    low = np.uint64(0xFFFF)
    for i in range(out.shape[0]):
        row = rows[i]
        at = 0
        j = 0
        while at < width:
            w = _philox(
                np.uint64(j), row & _LOW, row >> _HALF, np.uint64(stream), np.uint64(k0),
                np.uint64(k1),
            )  # fmt: skip
            j += 1
            if at + 8 <= width:
                for k in range(4):
                    out[i, at + 2 * k] = table[w[k] & low]
                    out[i, at + 2 * k + 1] = table[w[k] >> half]
            else:
                for k in range(width - at):
                    word = w[k // 2]
                    out[i, at + k] = table[(word >> half) if k % 2 else (word & low)]
            at += 8


@cache
def normal_table() -> NDArray[np.float32]:
    """Quantiles of N(0, 1) at (i + 1/2) / 2^16, i from 0 to 2^16 - 1, as float32.

    Multiples of 2^-16, which float32 holds exactly, antisymmetric about the middle, so
    that the mean is exactly zero.
    """
    from scipy.special import ndtri

    half = 2 ** (TABLE_BITS - 1)
    upper = np.rint(ndtri((np.arange(half, 2 * half) + 0.5) / (2 * half)) / FIXED_POINT)
    table = np.concatenate([-upper[::-1], upper]) * FIXED_POINT
    table = table.astype(np.float32)
    table.flags.writeable = False
    return table


class SharedRandom:
    """The random numbers of one level of one file.

    ``seed`` is in the file; ``level`` keeps levels apart; ``stream`` is whatever a sampler
    wants to keep apart (a shard, a purpose); ``row`` is the address of one draw. Streams
    from ``RESERVED`` up belong to the framework.
    """

    RESERVED = 2**31

    def __init__(self, seed: int, level: int) -> None:
        self.seed = seed
        self.level = level

    @staticmethod
    def _rows(rows: ArrayLike) -> NDArray[np.uint64]:
        return np.ascontiguousarray(np.atleast_1d(np.asarray(rows)), dtype=np.uint64)

    def words(self, stream: int, rows: ArrayLike, width: int) -> NDArray[np.uint32]:
        """Uniform 32-bit words, (len(rows), width)."""
        addresses = self._rows(rows)
        out = np.empty((len(addresses), -(-width // 4) * 4), np.uint32)
        _words(out, addresses, stream, self.seed, self.level)
        return out[:, :width]

    def normals(self, stream: int, rows: ArrayLike, width: int) -> NDArray[np.float32]:
        """Draws from N(0, 1), (len(rows), width); each row a function of its own address.

        A narrower draw of the same address is a prefix of a wider one.
        """
        addresses = self._rows(rows)
        out = np.empty((len(addresses), width), np.float32)
        _normals(out, addresses, stream, self.seed, self.level, normal_table())
        return out

    def permutation(self, stream: int, length: int) -> NDArray[np.int64]:
        """A permutation of ``length`` items."""
        words = self.words(stream, [0], 2 * length)[0]
        keys = words[::2].astype(np.uint64) << np.uint64(32) | words[1::2]
        return np.argsort(keys, kind="stable")

    def signs(self, stream: int, rows: ArrayLike, width: int) -> NDArray[np.float32]:
        """Random signs, +1 or -1, (len(rows), width)."""
        words = self.words(stream, rows, -(-width // 32))
        bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")[:, :width]
        return np.float32(1) - 2 * bits.astype(np.float32)

    def private(self, purpose: int = 0) -> np.random.Generator:
        """Randomness of the encoder alone (the decoder never needs it), repeatable."""
        key: Any = [self.seed, (self.level << 32) + purpose]
        return np.random.Generator(np.random.Philox(key=key))
