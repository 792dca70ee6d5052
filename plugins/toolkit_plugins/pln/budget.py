"""Hitting a file size: level 1 gets what the rest of the file leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from toolkit.sampling.contract import Array, CodedSample, Sampler
from toolkit.sampling.randomness import SharedRandom

FileOf = Callable[[bytes, bytes], bytes]
"""The file of the two streams, level 2 and level 1."""


class _Noted(Sampler):
    """Codes as ``inner`` does and keeps the stream."""

    def __init__(self, inner: Sampler) -> None:
        self.inner = inner
        self.data = b""

    def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
        coded = self.inner.encode(d, r, random)
        self.data = coded.data
        return coded

    def decode(self, data: bytes, shape: tuple[int, int, int], random: SharedRandom) -> Array:
        return self.inner.decode(data, shape, random)


class _Filling(_Noted):
    """Codes as ``inner`` does, in the room that ``room`` says there is."""

    def __init__(self, inner: Sampler, room: Callable[[], int]) -> None:
        super().__init__(inner)
        self.room = room

    def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
        return cast(CodedSample, cast(Any, self.inner).encode_within(d, r, random, self.room()))


def fill(samplers: dict[str, Sampler], file_of: FileOf, max_bytes: int) -> dict[str, Sampler]:
    """``samplers`` such that the file has ``max_bytes`` bytes, or as few less as can be.

    Level 1's sampler must have ``encode_within``, which raises UsageError where the room is
    too small for any stream.
    """
    level2 = _Noted(samplers["level2"])

    def room() -> int:
        size = 0
        for _ in range(3):  # the header holds the stream's size, whose length depends on it
            size = max(0, max_bytes - (len(file_of(level2.data, bytes(size))) - size))
        return size - (len(file_of(level2.data, bytes(size))) > max_bytes)

    return {"level2": level2, "level1": _Filling(samplers["level1"], room)}
