"""Trellis coding of samples: relative entropy coding by Viterbi search.

A stream of raw bits drives a shift register of nu bits, its state. Latent element i takes the
value ``Z[x_i + state]`` of a shared table of N(0, 1) draws, x_i being a shared random offset.
So nearby elements share bits, every bit string is a sample, and over random offsets each value is
distributed as the proposal. The encoder looks for the bits whose sample has the greatest log
importance weight: with ``p = 1/r^2 - 1``, ``m = d / (1 - r^2)``, it minimises

    sum_i 1/2 p_i (c_i - m_i)^2 = sum_i 1/2 p_i c_i^2 - (d_i / r_i^2) c_i + constant

over all bit strings at once (Viterbi 1967; Forney 1973), p taken for 0 where r > 1. The decoder
slides a window of nu bits over the stream and looks values up.

Source coding with trellises: Viterbi and Omura 1974, "Trellis encoding of memoryless
discrete-time sources with a fidelity criterion"; rate-distortion theory makes the excess vanish
as nu grows. Like importance sampling with argmax, it is biased towards large weight.

How many bits each element sends: rates (sent for channels and tiles, about the KL an element) add
up along a random order of the elements, and whole parts are sent. Elements so far out that no draw
comes near are moved by a whole number that is sent. Segments of the level are independent of each
other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from toolkit.errors import UsageError
from toolkit.format.errors import BadStream
from toolkit.options import Options
from toolkit.sampling.contract import Array, CodedSample, Sampler, check_targets
from toolkit.sampling.randomness import SharedRandom
from toolkit.sampling.rate_prediction import Ints8
from toolkit.threads import threads_allowed
from toolkit_plugins.samplers.trellis import viterbi
from toolkit_plugins.samplers.trellis.segments import Segment, Segments
from toolkit_plugins.samplers.trellis.side import LARGEST_SCALE, Side, choose_side
from toolkit_plugins.samplers.trellis.table import value_table

LEAST_R = 2.0**-7
"""Narrower targets are searched for as if they were this wide: none sends more than 8 bits."""
FARTHEST = 64.0
"""As far out as the search looks."""
SURVIVOR_BYTES = 2**27
"""Of one segment's search."""


class TrellisOptions(Options, frozen=True):
    """Options of the trellis."""

    nu: Annotated[int, Meta(ge=8, le=18)] = 12
    """log2 of the number of states: the encoder's time doubles with each, J falls."""
    segment: Annotated[int, Meta(ge=256, le=2**20)] = 8192
    """Elements that are coded together, at most; segments run in threads."""
    scale: Annotated[float, Meta(ge=0.05, le=4)] = 1.02
    """Bits sent per bit of KL: J is least a little above 1. Encoder only."""
    layout: Annotated[int, Meta(ge=1, le=3)] = 1
    """Of the stream. 2: cells that hold next to nothing aren't coded and take the prior's mean,
    as suits ladders of many levels; 1: they are searched, or take draws of the prior. 3: as 2,
    with the rates that the weights guess for each element, where they do."""


class Trellis(Sampler[TrellisOptions]):
    """See the module's docstring."""

    options_class: ClassVar[type[Options]] = TrellisOptions

    threads: int | None = None
    """Threads; None for ``threads_allowed()``. No effect on the bytes."""
    guesses: Ints8 | None = None
    """Of the rates of the level that is coded, int8 (C, H, W), in steps of 1/8 octave."""

    def with_guesses(self, guesses: Ints8) -> Trellis:
        """See ``TakesGuesses``."""
        if self.options.layout < 3:
            return self
        other = Trellis(self.options)
        other.threads, other.guesses = self.threads, guesses
        return other

    def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
        """See ``Sampler.encode``."""
        return self._encode(d, r, random, None)

    def encode_within(
        self, d: Array, r: Array, random: SharedRandom, max_bytes: int
    ) -> CodedSample:
        """As ``encode``, with all rates scaled so that the stream has ``max_bytes`` bytes, or
        as few less as can be.

        Raises UsageError where the side information alone takes more.
        """
        return self._encode(d, r, random, max_bytes)

    def decode(self, data: bytes, shape: tuple[int, int, int], random: SharedRandom) -> Array:
        """See ``Sampler.decode``."""
        side, header = Side.read(data, shape, self.options.layout, self.guesses)
        return self._values(self._segments(shape, side, random), side, data[header:])

    def _encode(
        self, d: Array, r: Array, random: SharedRandom, max_bytes: int | None
    ) -> CodedSample:
        check_targets(d, r)
        channels, height, width = d.shape
        options = self.options
        side = choose_side(d, r, options.nu, options.scale, options.layout, self.guesses)
        segments = self._segments((channels, height, width), side, random)
        if max_bytes is not None:
            side = self._fit(segments, side, max_bytes)
        header = side.write()
        payload = self._search(segments, side, d.ravel(), r.ravel())
        values = self._values(segments, side, payload)
        return CodedSample(header + payload, values, 8 * len(header))

    def _segments(self, shape: tuple[int, int, int], side: Side, random: SharedRandom) -> Segments:
        return Segments(shape, self.options.segment, random, side.members())

    def _search(self, segments: Segments, side: Side, d: Array, r: Array) -> bytes:
        """The payload: bits of all segments one after the other."""
        nu = self.options.nu
        table = value_table(nu)
        window = SURVIVOR_BYTES >> (nu - 1)
        rates = side.rates()
        free: list[NDArray[np.uint8]] = []  # new memory for each segment is a third of the time

        def run(number: int) -> NDArray[np.uint8]:
            segment = segments.segment(number, rates, nu)
            bits = np.empty(segment.bits, np.uint8)
            if segment.bits:
                near = d[segment.elements] - side.shifts_of(segment.elements)
                a, h = _cost(near, r[segment.elements])
                steps = int(np.count_nonzero(segment.sends))
                symbols = np.empty(steps, np.uint8)
                choices = _taken(free, (max(2, min(window, segments.longest)), 1 << nu - 1))
                first = viterbi.search(
                    segment.sends, segment.offsets, a, h, table, nu, segment.free, choices, symbols
                )
                free.append(choices)
                viterbi.pack(segment.sends, symbols, segment.free, first, bits)
            return bits

        return _packed(self._map(run, segments.count))

    def _values(self, segments: Segments, side: Side, payload: bytes) -> Array:
        """The sample that a payload means. Raises BadStream where its length is wrong."""
        nu = self.options.nu
        table = value_table(nu)
        packed = np.frombuffer(payload, np.uint8)
        count = 8 * len(packed)
        out = np.zeros(int(np.prod(segments.shape)), np.float32)
        rates = side.rates()
        at = 0
        for number in range(segments.count):
            segment: Segment = segments.segment(number, rates, nu)
            if at + segment.bits > count:
                raise BadStream(f"trellis: {count} bits are there, more are wanted")
            bits = np.unpackbits(packed[at >> 3 : (at + segment.bits + 7) >> 3])[at & 7 :]
            viterbi.walk(
                segment.sends, segment.offsets, segment.elements, bits, segment.free, nu,
                table, out,
            )  # fmt: skip
            at += segment.bits
        if count - at > 7 or np.unpackbits(packed[at >> 3 :])[at & 7 :].any():
            raise BadStream(f"trellis: {count - at} bits are left over")
        out[side.places] += side.shifts
        return out.reshape(segments.shape)

    def _fit(self, segments: Segments, side: Side, max_bytes: int) -> Side:
        """``side`` with the largest scale with which the stream takes ``max_bytes`` at most."""
        room = max_bytes - len(side.scaled(0).write())
        if room < 0:
            raise UsageError(f"trellis: {max_bytes} bytes are {-room} too few for the rates alone")
        low, high = 0, LARGEST_SCALE
        while low < high:
            middle = (low + high + 1) // 2
            if segments.total(side.scaled(middle).rates(), self.options.nu) <= 8 * room:
                low = middle
            else:
                high = middle - 1
        return side.scaled(low)

    def _map(
        self, function: Callable[[int], NDArray[np.uint8]], count: int
    ) -> Iterator[NDArray[np.uint8]]:
        threads = min(self.threads or threads_allowed(), count)
        if threads <= 1:
            yield from map(function, range(count))
            return
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(function, range(count))


def _taken(free: list[NDArray[np.uint8]], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """One of the arrays that threads have given back, or a new one."""
    try:
        return free.pop()
    except IndexError:
        return np.empty(shape, np.uint8)


def _packed(parts: Iterable[NDArray[np.uint8]]) -> bytes:
    """Bits (one a byte) of parts, one after another, eight a byte; zeros fill the last."""
    out, rest = bytearray(), np.zeros(0, np.uint8)
    for part in parts:
        bits = np.concatenate([rest, part])
        whole = len(bits) & ~7
        out += np.packbits(bits[:whole]).tobytes()
        rest = bits[whole:]
    return bytes(out + np.packbits(rest).tobytes())


def _cost(d: Array, r: Array) -> tuple[Array, Array]:
    """a and h of the cost ``a c^2 - h c`` of values c, nats."""
    precision = 1 / np.square(np.maximum(r, np.float32(LEAST_R)))
    curve = np.maximum(0, (precision - 1) / 2)
    slope = np.clip(d, -FARTHEST, FARTHEST) * precision
    return curve.astype(np.float32), slope.astype(np.float32)
