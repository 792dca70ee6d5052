"""The ladder of Gaussians: the interface between entropy models and coders.

An entropy model hands out its levels from the top down as a generator. For encoding it yields
a ``Target`` and is sent back the sample that was coded; what it returns in the end makes the
pixels, which a file doesn't need. For decoding it yields the shape and is sent back the sample
that was decoded, and returns the pixels. So each level's prior, and posterior, is computed from
what the decoder will have (thesis, section 3.2.2, with the order of coding corrected: the level-1
posterior, too, waits for the decoded z2).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from toolkit.sampling.capabilities import with_guesses
from toolkit.sampling.contract import Array, CodedSample, Sampler, kl_bits
from toolkit.sampling.figure_of_merit import log_weight_bits
from toolkit.sampling.randomness import SharedRandom
from toolkit.sampling.rate_prediction import Ints8, RateWalk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

Shape = tuple[int, int, int]
L = TypeVar("L")
R = TypeVar("R")


@dataclass(frozen=True)
class Target:
    """One level of the ladder, in units of its prior: draw from N(d, r^2), proposal N(0, 1)."""

    name: str
    d: Array
    """(C, H, W)"""
    r: Array
    """(C, H, W), positive"""
    guesses: Ints8 | None = None
    """Of the elements' rates, int8 (C, H, W), in steps of 1/8 octave; None: none are made."""


EncodeLadder = Generator[Target, Array, "Callable[[], Pixels]"]
DecodeLadder = Generator[tuple[str, Shape], Array, "Pixels"]


@dataclass(frozen=True)
class CodedLevel:
    """A level that has been coded."""

    name: str
    coded: CodedSample
    kl_bits: float
    skipped: bool = False
    """Whether nothing is sent of it: it is at its prior's mean."""


@dataclass(frozen=True)
class CodedLadder:
    """All levels, top first, and how to make what the decoder will make of them."""

    levels: list[CodedLevel]
    show: Callable[[], Pixels]
    coder_seconds: float


def _random(seed: int, depth: int) -> SharedRandom:
    return SharedRandom(seed, depth)


def encode_ladder(
    ladder: EncodeLadder,
    samplers: Mapping[str, Sampler],
    seed: int,
    worth: float | None = None,
    rates: RateWalk | None = None,
) -> CodedLadder:
    """Code every level with its sampler.

    Targets may be written over.

    Arguments:
        worth: Nothing is sent of a level where that costs the evidence lower bound fewer bits than
            this, against an exact sample for its KL divergence; None: all are sent. But a level
            is sent where its prior's mean is likelier than exact samples are by more than this:
            there it is like none of them, and what is made of it may be like nothing that the
            levels below know.
        rates: Guesses each level's rates; None: samplers are told none.
    """
    levels: list[CodedLevel] = []
    seconds = 0.0

    def code(target: Target) -> Array:
        nonlocal seconds
        start = time.perf_counter()
        kl = _total_kl_bits(target)
        skipped = worth is not None and -worth - kl < _bits_lost_at_mean(target) < worth
        if skipped:
            coded = CodedSample(b"", np.zeros_like(target.d))
        else:
            random = _random(seed, len(levels))
            guesses = None if rates is None else rates.octaves(_shape(target))
            sampler = with_guesses(samplers[target.name], guesses)
            coded = sampler.encode_in_place(target.d, target.r, random)
        if rates is not None:
            rates.add(coded.values)
        seconds += time.perf_counter() - start
        levels.append(CodedLevel(target.name, coded, kl, skipped))
        return coded.values

    return CodedLadder(levels, _run(ladder, code), seconds)


def decode_ladder(
    ladder: DecodeLadder,
    samplers: Mapping[str, Sampler],
    streams: Mapping[str, bytes | None],
    seed: int,
    rates: RateWalk | None = None,
) -> tuple[Pixels, float]:
    """Decode every level; returns the pixels and the seconds that the samplers took.

    A level whose stream is None is at its prior's mean. Raises ``container.BadStream`` for streams
    that no encoder wrote.
    """
    seconds = 0.0
    depth = 0

    def code(level: tuple[str, Shape]) -> Array:
        nonlocal seconds, depth
        name, shape = level
        start = time.perf_counter()
        data = streams[name]
        if data is None:
            values = np.zeros(shape, np.float32)
        else:
            guesses = None if rates is None else rates.octaves(shape)
            sampler = with_guesses(samplers[name], guesses)
            values = sampler.decode(data, shape, _random(seed, depth))
        if rates is not None:
            rates.add(values)
        seconds += time.perf_counter() - start
        depth += 1
        return values

    return _run(ladder, code), seconds


def sample_ladder(
    ladder: EncodeLadder, seed: int, rates: RateWalk | None = None
) -> tuple[list[Target], Pixels]:
    """A plain posterior sample of every level: the targets on the way, and the pixels."""
    targets: list[Target] = []

    def code(target: Target) -> Array:
        guesses = None if rates is None else rates.octaves(_shape(target))
        targets.append(replace(target, guesses=guesses))
        sample = posterior_sample(target, seed, len(targets) - 1)
        if rates is not None:
            rates.add(sample)
        return sample

    return targets, _run(ladder, code)()


def posterior_sample(target: Target, seed: int, depth: int) -> Array:
    """A plain sample of N(d, r^2), float32, shaped as the target; ``depth`` counts the levels
    from the top."""
    noise = _random(seed, depth).private().standard_normal(target.d.shape, np.float32)
    return target.d + target.r * noise


def theoretical_bits(targets: list[Target]) -> float:
    """KL + 2 log2(KL + 1), in bits (Harsha et al. 2007, as in section 4.2 of the thesis)."""
    kl = sum(_total_kl_bits(target) for target in targets)
    return kl + 2 * math.log2(kl + 1)


def _shape(target: Target) -> Shape:
    channels, height, width = target.d.shape
    return channels, height, width


def _total_kl_bits(target: Target) -> float:
    """One channel at a time: float64 copies of a level are large."""
    return float(sum(kl_bits(d, r).sum() for d, r in zip(target.d, target.r, strict=True)))


def _bits_lost_at_mean(target: Target) -> float:
    """``-log2 q(0) / p(0)``: by how much the evidence lower bound is lower with the prior's mean,
    for which nothing is sent, than with an exact sample, for which the KL divergence is."""
    zero = np.zeros_like(target.d[0])
    return -float(
        sum(log_weight_bits(d, r, zero).sum() for d, r in zip(target.d, target.r, strict=True))
    )


def _run(ladder: Generator[L, Array, R], code: Callable[[L], Array]) -> R:
    sample: Array | None = None
    while True:
        try:
            level = next(ladder) if sample is None else ladder.send(sample)
        except StopIteration as stop:
            end: R = stop.value
            return end
        sample = code(level)
        del level  # of large pictures it takes much, and is needed no more
