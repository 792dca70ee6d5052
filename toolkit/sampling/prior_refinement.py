"""Prior refinement: for each image and channel, a correction of the prior's mean and scale is sent.

A network's prior is right on average, not for one image: a channel whose latent elements all lie to
one side, or closer together than the prior says, costs bits for nothing. In units of the prior,
channel k gets ``N(m_k, s_k^2)`` instead of N(0, 1), m in steps of 1/32, log2 s in steps of 1/8;
the target becomes ``N((d - m) / s, (r / s)^2)``, and the sample c' that is coded stands for
``m + s c'``. The KL divergence is least for ``m = mean d``, ``s^2 = mean (d - m)^2 + r^2``.
Channels where that doesn't pay for what it takes to send are left as they are.

Works with any sampler, which sees another target, that's all; what a sampler can do beyond the
contract it can do behind a prior refinement, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from toolkit.format.errors import BadStream
from toolkit.sampling.capabilities import CountsIndices, FitsBytes, with_guesses
from toolkit.sampling.coding.bits import BitReader, BitWriter, Ints
from toolkit.sampling.contract import Array, CodedSample, OptionsT, Sampler, kl_bits
from toolkit.sampling.randomness import SharedRandom
from toolkit.sampling.rate_prediction import Ints8

MEAN_STEPS = 32
"""Steps of the mean in one prior's scale."""
LARGEST_MEAN = 4095
"""In steps."""
LARGEST_SCALE = 63
"""Of log2 of the scale, in steps of 1/8, up or down."""
_OCTAVE = (32768, 35734, 38968, 42495, 46341, 50535, 55109, 60097)  # 2^15 2^(k/8)
_WIDTH_FIELD = 4
_WORTH = 12.0
"""Bits of KL that a channel's refinement must save."""


class PriorRefined(Sampler[OptionsT]):
    """A sampler behind a prior refinement. ``refine_prior`` makes one."""

    def __init__(self, inner: Sampler[OptionsT]) -> None:
        super().__init__(inner.options)
        self.inner = inner
        self.exact = inner.exact

    @property
    def threads(self) -> int | None:
        """Of the sampler behind it, if it runs threads."""
        return getattr(self.inner, "threads", None)

    @threads.setter
    def threads(self, threads: int | None) -> None:
        if hasattr(self.inner, "threads"):
            self.inner.threads = threads

    def identity(self) -> dict[str, Any]:
        """Of the sampler behind it."""
        return self.inner.identity()

    def with_guesses(self, guesses: Ints8) -> Sampler[OptionsT]:
        """See ``TakesGuesses``."""
        return type(self)(with_guesses(self.inner, guesses))

    def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
        """See ``Sampler.encode``."""
        refinement = choose_refinement(d, r)
        return refinement.restore(self.inner.encode_in_place(*refinement.target(d, r), random))

    def encode_in_place(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
        """See ``Sampler.encode_in_place``."""
        refinement = choose_refinement(d, r)
        refinement.standardise(d, r)
        return refinement.restore(self.inner.encode_in_place(d, r, random))

    def decode(self, data: bytes, shape: tuple[int, int, int], random: SharedRandom) -> Array:
        """See ``Sampler.decode``."""
        refinement, size = PriorRefinement.read(data, shape[0])
        return refinement.values(self.inner.decode(data[size:], shape, random))


class _FitsBytes(PriorRefined[OptionsT]):
    def encode_within(
        self, d: Array, r: Array, random: SharedRandom, max_bytes: int
    ) -> CodedSample:
        """See ``FitsBytes.encode_within``."""
        assert isinstance(self.inner, FitsBytes)
        refinement = choose_refinement(d, r)
        room = max_bytes - len(refinement.write())
        coded = self.inner.encode_within(*refinement.target(d, r), random, room)
        return refinement.restore(coded)


class _CountsIndices(PriorRefined[OptionsT]):
    def count_indices(self, d: Array, r: Array, random: SharedRandom) -> Any:
        """See ``CountsIndices.count_indices``."""
        assert isinstance(self.inner, CountsIndices)
        return self.inner.count_indices(*choose_refinement(d, r).target(d, r), random)


class _FitsBytesAndCountsIndices(_FitsBytes[OptionsT], _CountsIndices[OptionsT]):
    pass


_CLASSES: dict[tuple[bool, bool], type[PriorRefined]] = {
    (False, False): PriorRefined,
    (True, False): _FitsBytes,
    (False, True): _CountsIndices,
    (True, True): _FitsBytesAndCountsIndices,
}
"""By what the sampler behind it can: ``FitsBytes``, ``CountsIndices``."""


def refine_prior(sampler: Sampler) -> PriorRefined:
    """The sampler behind a prior refinement, with the capabilities that it has."""
    return _CLASSES[isinstance(sampler, FitsBytes), isinstance(sampler, CountsIndices)](sampler)


@dataclass(frozen=True)
class PriorRefinement:
    """What is sent for the channels of a level; 0 and 0 for those that are left as they are."""

    means: Ints
    """(C,) in steps of 1/32"""
    scales: Ints
    """(C,) log2, in steps of 1/8"""

    def target(self, d: Array, r: Array) -> tuple[Array, Array]:
        """d and r (C, H, W) in units of the refined prior."""
        copies = np.array(d, np.float32), np.array(r, np.float32)
        self.standardise(*copies)
        return copies

    def standardise(self, d: Array, r: Array) -> None:
        """Write d and r (C, H, W) over in units of the refined prior."""
        m, s = self._floats()
        d -= m
        d /= s
        r /= s

    def values(self, refined: Array) -> Array:
        """Values (C, H, W) in units of the network's prior for those in units of the refined,
        which are written over if they may be."""
        m, s = self._floats()
        values = refined if refined.flags.writeable else refined.copy()
        values *= s
        values += m
        return values

    def restore(self, coded: CodedSample) -> CodedSample:
        """The sample in units of the network's prior, the refinement written before it."""
        head = self.write()
        side_bits = coded.side_bits + 8 * len(head)
        return CodedSample(head + coded.data, self.values(coded.values), side_bits)

    def _floats(self) -> tuple[Array, Array]:
        """m and s (C, 1, 1), the same bits everywhere: multiples of powers of two."""
        m = self.means.astype(np.float32) / np.float32(MEAN_STEPS)
        mantissas = np.array(_OCTAVE, np.float32)[self.scales % 8]
        s = np.ldexp(mantissas, (self.scales // 8 - 15).astype(np.int32)).astype(np.float32)
        return m[:, None, None], s[:, None, None]

    def write(self) -> bytes:
        """A flag a channel, then its mean and scale in fields as wide as the largest needs."""
        out = BitWriter()
        used = (self.means != 0) | (self.scales != 0)
        out.write(int(used.any()), 1)
        if used.any():
            out.write(used, 1)
            for values in (self.means[used], self.scales[used]):
                width = int(np.abs(values).max()).bit_length() + 1
                out.write(width, _WIDTH_FIELD)
                out.write(values + (1 << (width - 1)), width)
        return out.data()

    @classmethod
    def read(cls, data: bytes, channels: int) -> tuple[PriorRefinement, int]:
        """From the start of ``data``, and the bytes that it took. Raises BadStream."""
        reader = BitReader(data)
        found = cls(np.zeros(channels, np.int64), np.zeros(channels, np.int64))
        if reader.number(1):
            used = np.flatnonzero(reader.read(1, channels))
            for values, largest in ((found.means, LARGEST_MEAN), (found.scales, LARGEST_SCALE)):
                width = reader.number(_WIDTH_FIELD)
                if width == 0:
                    raise BadStream("prior refinement: fields without bits")
                values[used] = reader.read(width, len(used)) - (1 << (width - 1))
                if np.abs(values).max(initial=0) > largest:
                    raise BadStream("prior refinement: a mean or scale is off its range")
        size = -(-reader.at // 8)
        if data[size - 1] & ((1 << (8 * size - reader.at)) - 1):
            raise BadStream("prior refinement: not followed by zeros")
        return found, size


def choose_refinement(d: Array, r: Array) -> PriorRefinement:
    """The refinement that pays for targets (C, H, W); none if it doesn't pay for the flags."""
    channels = len(d)
    gain = 0.0
    means, scales = np.zeros(channels, np.int64), np.zeros(channels, np.int64)
    for k in range(channels):
        d64, r64 = d[k].astype(np.float64), r[k].astype(np.float64)
        mean = int(np.clip(np.rint(d64.mean() * MEAN_STEPS), -LARGEST_MEAN, LARGEST_MEAN))
        m = mean / MEAN_STEPS
        variance = float(np.mean((d64 - m) ** 2 + r64**2))
        scale = int(np.clip(np.rint(4 * np.log2(variance)), -LARGEST_SCALE, LARGEST_SCALE))
        s = 2.0 ** (scale / 8)
        saved = kl_bits(d[k], r[k]).sum() - kl_bits((d64 - m) / s, r64 / s).sum()
        if saved > _WORTH:
            means[k], scales[k] = mean, scale
            gain += saved - _WORTH
    if gain <= channels:
        means, scales = 0 * means, 0 * scales
    return PriorRefinement(means, scales)
