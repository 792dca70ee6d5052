"""Hitting a file size: the last level gets what the rest of the file leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy

from toolkit.sampling.capabilities import FitsBytes, with_guesses
from toolkit.sampling.contract import Array, CodedSample, Sampler
from toolkit.sampling.randomness import SharedRandom
from toolkit.sampling.rate_prediction import Ints8

Left = Callable[[Mapping[str, bytes]], int]
"""Bytes that a file of these streams, by level, has left of its budget."""


class _Noted(Sampler):
    """Codes as ``inner`` does and notes the stream."""

    def __init__(self, name: str, inner: Sampler, streams: dict[str, bytes]) -> None:
        super().__init__(inner.options)
        self.name, self.inner, self.streams = name, inner, streams

    def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
        coded = self.inner.encode(d, r, random)
        self.streams[self.name] = coded.data
        return coded

    def decode(self, data: bytes, shape: tuple[int, int, int], random: SharedRandom) -> Array:
        return self.inner.decode(data, shape, random)

    def with_guesses(self, guesses: Ints8) -> Sampler:
        other = copy(self)
        other.inner = with_guesses(self.inner, guesses)
        return other


class _Filling(_Noted):
    """Codes as ``inner`` does, in the room that the streams noted so far leave."""

    def __init__(self, name: str, inner: Sampler, streams: dict[str, bytes], left: Left) -> None:
        super().__init__(name, inner, streams)
        self.left = left

    def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
        assert isinstance(self.inner, FitsBytes)
        return self.inner.encode_within(d, r, random, self._room())

    def _room(self) -> int:
        size = 0
        for _ in range(3):  # the header holds the stream's size, whose length depends on it
            size = max(0, self._left(size) + size)
        return size - (self._left(size) < 0)

    def _left(self, size: int) -> int:
        return self.left({**self.streams, self.name: bytes(size)})


def fill(samplers: Mapping[str, Sampler], left: Left) -> dict[str, Sampler]:
    """``samplers``, top level first, such that the file fills its budget or lacks as few bytes as
    can be.

    The last must be a ``FitsBytes``, whose ``encode_within`` raises UsageError where the room is
    too small for any stream.
    """
    streams: dict[str, bytes] = {}
    *upper, (last, sampler) = samplers.items()
    noted: dict[str, Sampler] = {name: _Noted(name, inner, streams) for name, inner in upper}
    return {**noted, last: _Filling(last, sampler, streams, left)}
