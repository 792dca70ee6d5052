"""Side information as bits: fixed-width fields and Rice codes.

Rice code with parameter k (Rice 1979): ``value >> k`` in unary, ended by a one, then the low k
bits. Bits fill bytes from the top.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from toolkit.badfile import BadStream

_MAX_UNARY = 1 << 24


@numba.njit(cache=True, nogil=True)
def _write_rice(values, k, out):  # type: ignore[no-untyped-def]
    at = 0
    for value in values:
        for _ in range(value >> k):
            out[at] = 0
            at += 1
        out[at] = 1
        at += 1
        for i in range(k - 1, -1, -1):
            out[at] = (value >> i) & 1
            at += 1


@numba.njit(cache=True, nogil=True)
def _read_rice(bits, at, k, out):  # type: ignore[no-untyped-def]
    """Fill ``out``; the position after it, or -1 where the bits end too early."""
    size = bits.shape[0]
    for n in range(out.shape[0]):
        high = 0
        while at < size and bits[at] == 0:
            high += 1
            at += 1
        if at + 1 + k > size or high > _MAX_UNARY:
            return -1
        at += 1
        low = 0
        for _ in range(k):
            low = 2 * low + bits[at]
            at += 1
        out[n] = (high << k) | low
    return at


def rice_parameter(values: ArrayLike) -> int:
    """The parameter, 0 to 31, that takes the fewest bits for ``values`` (not negative)."""
    array = np.asarray(values, np.int64)
    sizes = [int((array >> k).sum()) + len(array) * (k + 1) for k in range(32)]
    return int(np.argmin(sizes))


def zigzag(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, -1, 1, -2, ... to 0, 1, 2, 3, ..."""
    return np.where(values >= 0, 2 * values, -2 * values - 1)


def unzigzag(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Inverse of ``zigzag``."""
    return np.where(values % 2 == 0, values // 2, -(values + 1) // 2)


class BitWriter:
    """Collects bits."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.uint8]] = []
        self.bits = 0

    def field(self, value: int, width: int) -> None:
        """``value`` in ``width`` bits."""
        if not 0 <= value < 1 << width:
            raise ValueError(f"{value} doesn't fit in {width} bits")
        self._append(np.array([value >> i & 1 for i in range(width - 1, -1, -1)], np.uint8))

    def rice(self, values: NDArray[np.int64]) -> None:
        """An array whose length the reader knows: 5 bits of parameter, then the codes."""
        k = rice_parameter(values)
        self.field(k, 5)
        out = np.empty(int((values >> k).sum()) + len(values) * (k + 1), np.uint8)
        _write_rice(values.astype(np.int64), k, out)
        self._append(out)

    def _append(self, bits: NDArray[np.uint8]) -> None:
        self._parts.append(bits)
        self.bits += len(bits)

    def to_bytes(self) -> bytes:
        """All of it, zero bits up to the next byte."""
        return np.packbits(np.concatenate([np.empty(0, np.uint8), *self._parts])).tobytes()


class BitReader:
    """Reads what a ``BitWriter`` wrote; BadStream where the data end too early."""

    def __init__(self, data: bytes) -> None:
        self._bits = np.unpackbits(np.frombuffer(data, np.uint8))
        self._at = 0

    def field(self, width: int) -> int:
        """A number of ``width`` bits."""
        end = self._at + width
        if end > len(self._bits):
            raise BadStream("side information ends too early")
        value = 0
        for bit in self._bits[self._at : end].tolist():
            value = 2 * value + bit
        self._at = end
        return value

    def rice(self, length: int) -> NDArray[np.int64]:
        """``length`` numbers."""
        k = self.field(5)
        if length * (k + 1) > len(self._bits) - self._at:
            raise BadStream("side information ends too early")
        out = np.empty(length, np.int64)
        at = _read_rice(self._bits, self._at, k, out)
        if at < 0:
            raise BadStream("side information ends too early")
        self._at = at
        return out

    def bytes_read(self) -> int:
        """Bytes up to here; BadStream where the padding isn't zero."""
        end = -(-self._at // 8)
        if self._bits[self._at : 8 * end].any():
            raise BadStream("padding of the side information isn't zero")
        return end
