"""Streams of bits: fields of any width, packed and read in whole arrays.

Everything is written most significant bit first and the last byte is filled up with zeros.
The reader checks every length before it allocates, so that no stream, however damaged, makes
it read past the end, loop for long or ask for memory that the stream can't justify.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toolkit.format.errors import BadStream

Ints = NDArray[np.int64]


def pack(values: ArrayLike, widths: ArrayLike) -> NDArray[np.uint8]:
    """Bits (one a byte) of ``values``, each in its own number of bits, 0 to 63."""
    values, widths = np.broadcast_arrays(np.asarray(values, np.int64), np.asarray(widths, np.int64))
    values, widths = values.reshape(-1), widths.reshape(-1)
    starts = np.cumsum(widths) - widths
    place = np.arange(int(widths.sum())) - np.repeat(starts, widths)
    shift = np.repeat(widths, widths) - 1 - place
    return ((np.repeat(values, widths) >> shift) & 1).astype(np.uint8)


class BitWriter:
    """Collects fields; ``bits`` is how many bits have been written."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.uint8]] = []
        self.bits = 0

    def write(self, values: ArrayLike, widths: ArrayLike) -> None:
        """Unsigned numbers (one or an array), each ``widths`` bits wide, 0 to 63."""
        self._put(pack(np.atleast_1d(values), np.atleast_1d(widths)))

    def unary(self, values: Ints) -> None:
        """Each number as that many zeros and a one."""
        ends = np.cumsum(values + 1)
        bits = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint8)
        bits[ends - 1] = 1
        self._put(bits)

    def gamma(self, values: ArrayLike) -> None:
        """Numbers >= 0 in the Elias gamma code of their successors: 2 log2(v + 1) + 1 bits."""
        successors = np.atleast_1d(np.asarray(values, np.int64)) + 1
        lengths = bit_length(successors) - 1
        self.unary(lengths)
        self.write(successors - (np.int64(1) << lengths), lengths)

    def delta(self, values: ArrayLike) -> None:
        """Numbers >= 0 in the Elias delta code of their successors v + 1 = n:
        log2 n + 2 log2(log2 n + 1) + 1 bits, logarithms rounded down."""
        successors = np.atleast_1d(np.asarray(values, np.int64)) + 1
        lengths = bit_length(successors) - 1
        self.gamma(lengths)
        self.write(successors - (np.int64(1) << lengths), lengths)

    def increasing(self, values: Ints, limit: int) -> None:
        """Strictly increasing numbers below ``limit`` in the Elias-Fano code, about
        2 + log2(limit / n) bits each; their count is the reader's to know."""
        if len(values):
            low = elias_fano_bits(len(values), limit)
            self.write(values & ((1 << low) - 1), low)
            self.unary(np.diff(values >> low, prepend=0))

    def words(self, words: NDArray[np.uint32]) -> None:
        """32-bit words of an entropy coder, their count before them."""
        self.gamma(len(words))
        self.write(words.astype(np.int64), 32)

    def _put(self, bits: NDArray[np.uint8]) -> None:
        self._parts.append(bits)
        self.bits += len(bits)

    def data(self) -> bytes:
        """The stream."""
        bits = np.concatenate(self._parts) if self._parts else np.zeros(0, np.uint8)
        return np.packbits(bits).tobytes()


class BitReader:
    """Reads what ``BitWriter`` wrote, with the same calls. Raises BadStream past the end."""

    def __init__(self, data: bytes) -> None:
        self._bits = np.unpackbits(np.frombuffer(data, np.uint8))
        self.at = 0

    def _take(self, count: int) -> NDArray[np.uint8]:
        if count > len(self._bits) - self.at:
            raise BadStream(
                f"bit {self.at}: {count} bits are wanted, {len(self._bits) - self.at} are there"
            )
        self.at += count
        return self._bits[self.at - count : self.at]

    def number(self, width: int) -> int:
        """One unsigned number of ``width`` bits."""
        return int(self.read([width])[0])

    def read(self, widths: ArrayLike, count: int | None = None) -> Ints:
        """Numbers, each ``widths`` bits wide; ``count`` of them where one width is given."""
        if count is not None:
            width = int(np.asarray(widths))
            bits = self._take(width * count).reshape(count, width).astype(np.int64)
            return bits @ (np.int64(1) << np.arange(width - 1, -1, -1, dtype=np.int64))
        widths = np.asarray(widths, np.int64)
        bits = self._take(int(widths.sum())).astype(np.int64)
        ends = np.cumsum(widths)
        shift = np.repeat(ends, widths) - 1 - np.arange(len(bits))
        total = np.concatenate([[0], np.cumsum(bits << shift)])
        return total[ends] - total[ends - widths]

    def unary(self, count: int) -> Ints:
        """``count`` numbers."""
        if count == 0:
            return np.zeros(0, np.int64)
        ones = self.at + np.flatnonzero(self._bits[self.at :])[:count]
        if len(ones) < count:
            raise BadStream(f"bit {self.at}: {count} marks are wanted, {len(ones)} are there")
        values = np.diff(ones, prepend=self.at - 1) - 1
        self.at = int(ones[-1]) + 1
        return values

    def gamma(self, count: int) -> Ints:
        """``count`` numbers below 2^62."""
        lengths = self.unary(count)
        if count and int(lengths.max()) > 61:
            raise BadStream(f"bit {self.at}: a number of more than 61 bits")
        return (np.int64(1) << lengths) - 1 + self.read(lengths)

    def delta(self, count: int) -> Ints:
        """``count`` numbers below 2^51."""
        lengths = self.gamma(count)
        if count and int(lengths.max()) > 50:
            raise BadStream(f"bit {self.at}: a number of more than 50 bits")
        return (np.int64(1) << lengths) - 1 + self.read(lengths)

    def increasing(self, count: int, limit: int) -> Ints:
        """``count`` strictly increasing numbers below ``limit``."""
        if count > limit:
            raise BadStream(f"bit {self.at}: {count} places among {limit}")
        if count == 0:
            return np.zeros(0, np.int64)
        low = elias_fano_bits(count, limit)
        lower = self.read(low, count)
        values = (np.cumsum(self.unary(count)) << low) + lower
        if values[-1] >= limit or np.any(np.diff(values) <= 0):
            raise BadStream(f"bit {self.at}: places that aren't increasing or pass {limit}")
        return values

    def words(self) -> NDArray[np.uint32]:
        """32-bit words of an entropy coder."""
        count = int(self.gamma(1)[0])
        return self.read(32, min(count, 2**40)).astype(np.uint32)

    def finish(self) -> None:
        """Raises BadStream where more is left than the padding of the last byte."""
        rest = self._bits[self.at :]
        if len(rest) > 7 or rest.any():
            raise BadStream(f"bit {self.at}: {len(rest)} bits are left over")


def bit_length(values: Ints) -> Ints:
    """Bits of each number below 2^52, 0 for 0: exact, as float64 holds them all."""
    return np.frexp(values.astype(np.float64))[1].astype(np.int64)


def elias_fano_bits(count: int, limit: int) -> int:
    """Low bits of each number in the Elias-Fano code of ``count`` numbers below ``limit``."""
    return max(0, (limit // count).bit_length() - 1)
