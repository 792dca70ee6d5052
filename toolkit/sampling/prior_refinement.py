"""Refinement of the prior: per image and channel, a correction of its mean and scale is sent.

A network's prior is right on average, not for one image: a channel whose latents all lie to one
side, or closer together than the prior says, costs bits for nothing. In units of the prior,
channel k gets ``N(m_k, s_k^2)`` instead of N(0, 1), m in steps of 1/32, log2 s in steps of 1/8;
the target becomes ``N((d - m) / s, (r / s)^2)``, and the sample c' that is coded stands for
``m + s c'``. The KL divergence is least for ``m = mean d``, ``s^2 = mean (d - m)^2 + r^2``.
Channels where that doesn't pay for what it takes to send are left as they are.

Works with any sampler: it sees another target, that's all.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import UsageError
from toolkit.format.errors import BadStream
from toolkit.sampling.coding.bits import BitReader, BitWriter, Ints
from toolkit.sampling.contract import Array, CodedSample, Sampler, kl_bits
from toolkit.sampling.randomness import SharedRandom

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


class Refined(Sampler):
    """A sampler behind a refinement of the prior."""

    def __init__(self, inner: Sampler) -> None:
        super().__init__(inner.options)
        self.inner = inner

    @property
    def threads(self) -> int | None:
        """Of the sampler behind it."""
        return getattr(self.inner, "threads", None)

    @threads.setter
    def threads(self, threads: int | None) -> None:
        self.inner.threads = threads  # type: ignore[attr-defined]

    def identity(self) -> dict[str, Any]:
        """Of the sampler behind it."""
        return self.inner.identity()

    def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
        """Code a sample; see ``Sampler.encode``."""
        return self._encode(d, r, random, None)

    def encode_within(
        self, d: Array, r: Array, random: SharedRandom, max_bytes: int
    ) -> CodedSample:
        """Code a sample in ``max_bytes`` bytes at most; see the sampler's own method.

        Raises UsageError for samplers that can't, and for budgets that can't be met.
        """
        return self._encode(d, r, random, max_bytes)

    def _encode(
        self, d: Array, r: Array, random: SharedRandom, max_bytes: int | None
    ) -> CodedSample:
        means, scales = choose_refinement(d, r)
        head = _write(means, scales)
        m, s = _as_floats(means, scales)
        target = ((d - m) / s).astype(np.float32), (r / s).astype(np.float32)
        if max_bytes is None:
            coded = self.inner.encode(*target, random)
        elif hasattr(self.inner, "encode_within"):
            room = max_bytes - len(head)
            coded = cast(CodedSample, self.inner.encode_within(*target, random, room))
        else:
            raise UsageError(f"{type(self.inner).__name__} can't code within a number of bytes")
        return CodedSample(head + coded.data, m + s * coded.values, coded.side_bits + 8 * len(head))

    def decode(self, data: bytes, shape: tuple[int, int, int], random: SharedRandom) -> Array:
        """See ``Sampler.decode``."""
        means, scales, size = _read(data, shape[0])
        m, s = _as_floats(means, scales)
        return m + s * self.inner.decode(data[size:], shape, random)


def choose_refinement(d: Array, r: Array) -> tuple[Ints, Ints]:
    """Means, in steps of 1/32, and log2 of scales, in steps of 1/8, of the channels (C,).

    Both are 0 where they don't pay, for all channels if they don't pay for the flags.
    """
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
    return (means, scales) if gain > channels else (0 * means, 0 * scales)


def _as_floats(means: Ints, scales: Ints) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """m and s (C, 1, 1), the same bits everywhere: multiples of powers of two."""
    m = means.astype(np.float32) / np.float32(MEAN_STEPS)
    mantissas = np.array(_OCTAVE, np.float32)[scales % 8]
    s = np.ldexp(mantissas, (scales // 8 - 15).astype(np.int32)).astype(np.float32)
    return m[:, None, None], s[:, None, None]


def _write(means: Ints, scales: Ints) -> bytes:
    """A flag a channel, then its mean and scale in fields as wide as the largest needs."""
    out = BitWriter()
    used = (means != 0) | (scales != 0)
    out.write(int(used.any()), 1)
    if used.any():
        out.write(used, 1)
        for values in (means[used], scales[used]):
            width = int(np.abs(values).max()).bit_length() + 1
            out.write(width, _WIDTH_FIELD)
            out.write(values + (1 << (width - 1)), width)
    return out.data()


def _read(data: bytes, channels: int) -> tuple[Ints, Ints, int]:
    """Means and scales of the channels, and the bytes that they took. Raises BadStream."""
    reader = BitReader(data)
    found = [np.zeros(channels, np.int64), np.zeros(channels, np.int64)]
    if reader.number(1):
        used = np.flatnonzero(reader.read(1, channels))
        for values, largest in zip(found, (LARGEST_MEAN, LARGEST_SCALE), strict=True):
            width = reader.number(_WIDTH_FIELD)
            if width == 0:
                raise BadStream("refinement: fields without bits")
            values[used] = reader.read(width, len(used)) - (1 << (width - 1))
            if np.abs(values).max(initial=0) > largest:
                raise BadStream("refinement: a mean or scale is off its range")
    size = -(-reader.at // 8)
    if data[size - 1] & ((1 << (8 * size - reader.at)) - 1):
        raise BadStream("refinement: not followed by zeros")
    return found[0], found[1], size
