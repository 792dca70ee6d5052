"""What samplers and codecs can do beyond their contract; asked for by ``isinstance``."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from toolkit.sampling.contract import Array, CodedSample
from toolkit.sampling.randomness import SharedRandom


@runtime_checkable
class FitsBytes(Protocol):
    """A sampler that can code a level in a given number of bytes."""

    def encode_within(
        self, d: Array, r: Array, random: SharedRandom, max_bytes: int
    ) -> CodedSample:
        """As ``encode``, in ``max_bytes`` bytes or as few less as can be.

        Raises UsageError where no stream is so short.
        """
        ...


@runtime_checkable
class CountsIndices(Protocol):
    """A sampler whose code is estimated from how often indices come."""

    def count_indices(self, d: Array, r: Array, random: SharedRandom) -> Any:
        """How often each index comes for these targets."""
        ...
