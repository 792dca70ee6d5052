"""What samplers and codecs can do beyond their contract; asked for by ``isinstance``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard, runtime_checkable

from toolkit.sampling.contract import Array, CodedSample, Sampler
from toolkit.sampling.randomness import SharedRandom
from toolkit.sampling.rate_prediction import Ints8

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from toolkit.sampling.ladder import Target

    Pixels = NDArray[np.uint8]


# -- of samplers ------------------------------------------------------------------


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
class TakesGuesses(Protocol):
    """A sampler whose stream is shorter where it is known about how many bits elements take."""

    def with_guesses(self, guesses: Ints8) -> Sampler:
        """The same for a level of whose rates there are guesses.

        Arguments:
            guesses: int8 (C, H, W), in steps of 1/8 octave (``toolkit.sampling.rate_prediction``):
                the same in the encoder and in the decoder.
        """
        ...


def with_guesses(sampler: Sampler, guesses: Ints8 | None) -> Sampler:
    """The sampler with the guesses, if there are any and it takes them."""
    if guesses is None or not isinstance(sampler, TakesGuesses):
        return sampler
    return sampler.with_guesses(guesses)


@runtime_checkable
class CountsIndices(Protocol):
    """A sampler whose code is estimated from how often indices come."""

    def count_indices(self, d: Array, r: Array, random: SharedRandom) -> Any:
        """How often each index comes for these targets: an integer array that adds up."""
        ...


@runtime_checkable
class HasThreads(Protocol):
    """A sampler that can work in several threads; the bytes don't depend on how many."""

    threads: int | None
    """None for ``toolkit.threads.threads_allowed()``."""


# -- of codecs --------------------------------------------------------------------


@runtime_checkable
class SendsSamples(Protocol):
    """A codec that sends samples of latents, or can by its options."""

    def sampler_names(self) -> list[str]:
        """Names of the samplers that its options choose, top level first; empty where they
        choose another way of coding. Needs no weights."""
        ...

    def options_with_sampler(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The options to change so that every level is coded by one sampler.

        Arguments:
            values: ``sampler`` names it, the rest are its options.
        """
        ...

    def samplers(self) -> dict[str, Sampler]:
        """Level name -> sampler, top level first."""
        ...

    def targets(self, pixels: Pixels, point: float) -> list[Target]:
        """The levels of an image, top level first, each given a plain sample of those above.

        Arguments:
            pixels: uint8 (H, W, C).
            point: In the units of the codec's rate parameter.
        """
        ...


def sends_samples(codec: object) -> TypeGuard[SendsSamples]:
    """Whether a codec with the options that it has sends samples."""
    return isinstance(codec, SendsSamples) and bool(codec.sampler_names())
