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
_W0, _W1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_HALF = np.uint64(32)
_LANES = 64
"""Counters that go through the rounds together: enough to fill any vector unit."""


@numba.njit(cache=True, nogil=True)
def _philox(c, k0, k1):  # type: ignore[no-untyped-def]
    """Ten rounds on counters ``c`` (4, lanes), uint32, in place. Loops over lanes are inmost, so
    that the compiler makes vector instructions of them."""
    c0, c1, c2, c3 = c[0], c[1], c[2], c[3]
    for _ in range(10):
        for lane in range(_LANES):
            p0 = np.uint64(c0[lane]) * _M0
            p1 = np.uint64(c2[lane]) * _M1
            c0[lane] = np.uint32(p1 >> _HALF) ^ c1[lane] ^ k0
            c2[lane] = np.uint32(p0 >> _HALF) ^ c3[lane] ^ k1
            c1[lane] = np.uint32(p1)
            c3[lane] = np.uint32(p0)
        k0 = np.uint32(k0 + _W0)
        k1 = np.uint32(k1 + _W1)


@numba.njit(cache=True, nogil=True)
def _draw(c, rows, row, column, per_row, stream, k0, k1):  # type: ignore[no-untyped-def]
    """Fill ``c`` with the words of the addresses (column, row, stream) from (row, column) on."""
    for lane in range(_LANES):
        address = rows[min(row, rows.shape[0] - 1)]
        c[0, lane] = np.uint32(column)
        c[1, lane] = np.uint32(address)
        c[2, lane] = np.uint32(address >> _HALF)
        c[3, lane] = np.uint32(stream)
        column += 1
        if column == per_row:
            column = 0
            row += 1
    _philox(c, np.uint32(k0), np.uint32(k1))


@numba.njit(cache=True, nogil=True)
def _words(out, rows, stream, k0, k1):  # type: ignore[no-untyped-def]
    """Fill ``out`` (n, 4 m), uint32: row i holds words of the address (stream, rows[i])."""
    per_row = out.shape[1] // 4
    total = out.shape[0] * per_row
    c, row, column = np.empty((4, _LANES), np.uint32), 0, 0
    for at in range(0, total, _LANES):
        _draw(c, rows, row, column, per_row, stream, k0, k1)
        for lane in range(min(_LANES, total - at)):
            for k in range(4):
                out[row, 4 * column + k] = c[k, lane]
            column += 1
            if column == per_row:
                column = 0
                row += 1


@numba.njit(cache=True, nogil=True)
def _normals(out, rows, stream, k0, k1, table):  # type: ignore[no-untyped-def]
    """Fill ``out`` (n, width), float32, two normals a word, low half first."""
    width = out.shape[1]
    per_row = (width + 7) // 8
    total = out.shape[0] * per_row
    c, row, column = np.empty((4, _LANES), np.uint32), 0, 0
    for at in range(0, total, _LANES):
        _draw(c, rows, row, column, per_row, stream, k0, k1)
        for lane in range(min(_LANES, total - at)):
            first = 8 * column
            if first + 8 <= width:
                for k in range(4):
                    out[row, first + 2 * k] = table[c[k, lane] & 0xFFFF]
                    out[row, first + 2 * k + 1] = table[c[k, lane] >> 16]
            else:
                for k in range(width - first):
                    word = np.int64(c[k // 2, lane])
                    out[row, first + k] = table[(word >> 16) if k % 2 else (word & 0xFFFF)]
            column += 1
            if column == per_row:
                column = 0
                row += 1


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
