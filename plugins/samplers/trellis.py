"""Trellis coding of samples: relative entropy coding by Viterbi search.

A stream of raw bits drives a shift register of nu bits, its state. Dim i of the level takes the
value ``Z[x_i + state]`` of a shared table of N(0, 1) draws, x_i being a shared random offset.
So nearby dims share bits, every bit string is a sample, and over random tables each value is
distributed as the proposal. The encoder looks for the bits whose sample has the greatest log
importance weight: with ``p = 1/r^2 - 1``, ``m = d / (1 - r^2)``, it minimises

    sum_i 1/2 p_i (c_i - m_i)^2 = sum_i 1/2 p_i c_i^2 - (d_i / r_i^2) c_i + constant

over all bit strings at once (Viterbi 1967; Forney 1973). The decoder slides a window of nu bits
over the stream and looks values up.

Source coding with trellises and random labels: Viterbi and Omura 1974, "Trellis encoding of
memoryless discrete-time sources with a fidelity criterion"; rate-distortion theory makes the
excess vanish as nu grows. As importance sampling with argmax, it is biased towards large weight.

How many bits each dim sends: channel rates (sent, about the channel's KL a dim) add up along a
random order of the dims, and whole parts are sent. Dims far out (|d| > limit) are moved by a
whole number that is sent. Segments of the level are independent of each other.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from toolkit_plugins.samplers import _rates, _viterbi
from toolkit_plugins.samplers._bits import BitReader, BitWriter, unzigzag, zigzag

from toolkit.badfile import BadStream
from toolkit.errors import UsageError
from toolkit.options import Options
from toolkit.randomness import SharedRandom
from toolkit.sampling import Array, CodedSample, Sampler, kl_bits

Shape = tuple[int, int, int]

OFFSET_BITS = 18
"""Offsets x_i are below 2^18."""
SCALE_BITS = 20
"""The common scale of all rates is a multiple of 2^-20, below 16."""
LEAST_R = 2.0**-7
"""Narrower targets are searched for as if they were this wide: no dim sends more than 8 bits."""
LARGEST_SHIFT = 2**22

_ORDER, _OFFSETS, _CODEBOOK = 0, 1, 2


class TrellisOptions(Options):
    """Options of the trellis."""

    nu: Annotated[int, Meta(ge=8, le=16)] = 12
    """log2 of the number of states: the encoder's time doubles with each, J falls."""
    segment: Annotated[int, Meta(ge=256, le=2**20)] = 16384
    """Dims that are coded together, at most; segments run in threads."""
    limit: Annotated[float, Meta(ge=1, le=16)] = 4.0
    """Targets with \\|d\\| above this are moved to within 1/2 of 0. Encoder only."""
    scale: Annotated[float, Meta(ge=0.05, le=4)] = 1.0
    """Bits sent per bit of KL. Encoder only."""


@dataclass(frozen=True)
class Side:
    """Side information, as the decoder sees it."""

    rates: NDArray[np.int64]
    """(C), in units of 2^-24 bits a dim."""
    moved: NDArray[np.int64]
    """Dims (flat index, increasing) that are moved..."""
    shifts: NDArray[np.int64]
    """...and by how much; never 0."""


class Layout:
    """Order of coding, offsets and emissions of a level: what encoder and decoder share."""

    def __init__(self, shape: Shape, segment: int, random: SharedRandom) -> None:
        self.shape = shape
        self.dims = int(np.prod(shape))
        self.segments = max(1, -(-self.dims // segment))
        self.longest = -(-self.dims // self.segments)
        self.random = random

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Order of the dims of a segment, the same in all of them."""
        return self.random.permutation(_ORDER, self.longest)

    def indices(self, segment: int) -> NDArray[np.int64]:
        """Flat indices of a segment's dims in coding order.

        A segment has every ``segments``-th dim, so that each one is like the whole.
        """
        dims = self.order * self.segments + segment
        return dims[dims < self.dims]

    def offsets(self, segment: int) -> NDArray[np.int64]:
        """x_i of a segment's dims in coding order."""
        words = self.random.words(_OFFSETS, [segment], self.longest)[0]
        return (words >> np.uint32(32 - OFFSET_BITS)).astype(np.int64)

    def sends(self, segment: int, rates: NDArray[np.int64]) -> tuple[NDArray[np.uint8], int]:
        """Bits that each dim of a segment sends, and their sum."""
        channels = self.indices(segment) // (self.shape[1] * self.shape[2])
        out = np.empty(len(channels), np.uint8)
        return out, int(_viterbi.emissions(rates, channels, out))

    def total(self, rates: NDArray[np.int64]) -> int:
        """Bits that all segments send."""
        return sum(self.sends(segment, rates)[1] for segment in range(self.segments))


@cache
def codebook(nu: int) -> Array:
    """The table Z, float32, (2^18 + 2^nu): fixed, like the draws of any other sampler."""
    normals = SharedRandom(0, 0).normals(SharedRandom.RESERVED, [0], 2**OFFSET_BITS + 2**nu)[0]
    normals.flags.writeable = False
    return normals


class Trellis(Sampler):
    """See the module's docstring."""

    options_class: ClassVar[type[Options]] = TrellisOptions
    options: TrellisOptions

    threads: int | None = None
    """Threads; None for as many as there are processors. No effect on the bytes."""

    def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
        """Code a sample; see ``Sampler.encode``. Raises UsageError for targets not finite."""
        return self._encode(d, r, random, None)

    def encode_within(
        self, d: Array, r: Array, random: SharedRandom, max_bytes: int
    ) -> CodedSample:
        """As ``encode``, with all rates scaled so that the stream has ``max_bytes`` bytes, or
        as few less as can be.

        Raises UsageError where the side information alone takes more.
        """
        return self._encode(d, r, random, max_bytes)

    def _encode(
        self, d: Array, r: Array, random: SharedRandom, max_bytes: int | None
    ) -> CodedSample:
        if not (np.isfinite(d).all() and np.isfinite(r).all() and (r > 0).all()):
            raise UsageError("trellis: targets must be finite, their widths positive")
        layout = Layout(d.shape, self.options.segment, random)  # type: ignore[arg-type]
        moved, shifts = _far_out(d, self.options.limit)
        near = d.astype(np.float32).ravel()
        near[moved] -= shifts
        kl = kl_bits(near.reshape(d.shape), r)
        per_dim = kl.mean(axis=(1, 2)) * self.options.scale
        mantissa = _mantissa(d.shape[1] * d.shape[2])
        codes = _rates.nearest_codes(per_dim, mantissa, _viterbi.RATE_BITS)
        if max_bytes is None and not codes.any() and not len(moved):
            return CodedSample(b"", self._values(layout, b"", None), 0)
        rates = _rates.rate_table(mantissa, _viterbi.RATE_BITS)[codes]

        def head(scale: int) -> bytes:
            return _write_side(codes, mantissa, moved, shifts, scale)

        scale = 1 << SCALE_BITS
        if max_bytes is not None:
            scale = _fit(layout, rates, max_bytes - len(head(scale - 1)))
        side = Side(_scaled(rates, scale), moved, shifts)
        header = head(scale)
        payload = self._search(layout, side, near, r.astype(np.float32).ravel())
        values = self._values(layout, payload, side)
        return CodedSample(header + payload, values, 8 * len(header))

    def decode(self, data: bytes, shape: Shape, random: SharedRandom) -> Array:
        """See ``Sampler.decode``."""
        layout = Layout(shape, self.options.segment, random)
        if not data:
            return self._values(layout, b"", None)
        side, header = _read_side(data, shape)
        return self._values(layout, data[header:], side)

    def _search(self, layout: Layout, side: Side, d: Array, r: Array) -> bytes:
        """The payload: bits of all segments one after the other."""
        nu = self.options.nu
        table = codebook(nu)
        r = np.maximum(r, np.float32(LEAST_R))
        precision = 1 / (r * r)
        curve = np.maximum(0, (precision - 1) / 2).astype(np.float32)
        slope = (d * precision).astype(np.float32)

        def run(segment: int) -> NDArray[np.uint8]:
            dims = layout.indices(segment)
            sends, total = layout.sends(segment, side.rates)
            bits = np.empty(total, np.uint8)
            if total:
                symbols = np.empty(int(np.count_nonzero(sends)), np.uint8)
                _viterbi.search(
                    sends, layout.offsets(segment), curve[dims], slope[dims], table, nu, 32 * nu,
                    symbols,
                )  # fmt: skip
                _viterbi.pack(sends, symbols, 0, bits)
            return bits

        return np.packbits(np.concatenate(self._map(run, layout.segments))).tobytes()

    def _values(self, layout: Layout, payload: bytes, side: Side | None) -> Array:
        """The sample that a payload means. Raises BadStream where its length is wrong."""
        rates = side.rates if side else np.zeros(layout.shape[0], np.int64)
        sends = [layout.sends(segment, rates) for segment in range(layout.segments)]
        starts = np.cumsum([0] + [total for _, total in sends])
        if len(payload) != -(-int(starts[-1]) // 8):
            raise BadStream(f"{len(payload)} bytes of payload, {starts[-1]} bits by the rates")
        bits = np.unpackbits(np.frombuffer(payload, np.uint8))
        if bits[starts[-1] :].any():
            raise BadStream("padding of the payload isn't zero")
        nu = self.options.nu
        out = np.empty(layout.dims, np.float32)
        for segment in range(layout.segments):
            _viterbi.walk(
                sends[segment][0], layout.offsets(segment), layout.indices(segment), bits,
                starts[segment], nu, codebook(nu), out,
            )  # fmt: skip
        if side is not None:
            out[side.moved] += side.shifts.astype(np.float32)
        return out.reshape(layout.shape)

    def _map(
        self, function: Callable[[int], NDArray[np.uint8]], count: int
    ) -> list[NDArray[np.uint8]]:
        threads = min(self.threads or os.cpu_count() or 1, count)
        if threads == 1:
            return [function(i) for i in range(count)]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(function, range(count)))


def _far_out(d: Array, limit: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Dims with \\|d\\| above the limit, and the whole numbers nearest their d."""
    flat = d.ravel()
    moved = np.flatnonzero(np.abs(flat) > limit)
    shifts = np.clip(np.rint(flat[moved]), -LARGEST_SHIFT, LARGEST_SHIFT)
    return moved, shifts.astype(np.int64)


def _mantissa(dims: int) -> int:
    """Bits of mantissa for rates of channels of ``dims`` dims: more dims, finer rates."""
    return int(np.clip(np.log2(dims) // 2 - 2, 0, _rates.MAX_MANTISSA))


def _scaled(rates: NDArray[np.int64], scale: int) -> NDArray[np.int64]:
    return rates * scale >> SCALE_BITS


def _fit(layout: Layout, rates: NDArray[np.int64], max_bytes: int) -> int:
    """The largest scale with which all segments together take ``max_bytes`` bytes at most."""
    if max_bytes < 0:
        raise UsageError(f"trellis: {-max_bytes} bytes too few for the side information")
    low, high = 0, (16 << SCALE_BITS) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if layout.total(_scaled(rates, middle)) <= 8 * max_bytes:
            low = middle
        else:
            high = middle - 1
    return low


def _write_side(
    codes: NDArray[np.int64],
    mantissa: int,
    moved: NDArray[np.int64],
    shifts: NDArray[np.int64],
    scale: int,
) -> bytes:
    out = BitWriter()
    _rates.write_codes(out, codes, mantissa)
    out.field(scale != 1 << SCALE_BITS, 1)
    if scale != 1 << SCALE_BITS:
        out.field(scale, SCALE_BITS + 4)
    out.field(len(moved) > 0, 1)
    if len(moved):
        out.rice(np.array([len(moved)]))
        out.rice(np.diff(moved, prepend=-1) - 1)
        out.rice(zigzag(shifts))
    return out.to_bytes()


def _read_side(data: bytes, shape: Shape) -> tuple[Side, int]:
    """Side information and the bytes that it takes. Raises BadStream."""
    bits = BitReader(data)
    rates = _rates.read_codes(bits, shape[0], _viterbi.RATE_BITS)
    scale = bits.field(SCALE_BITS + 4) if bits.field(1) else 1 << SCALE_BITS
    moved = shifts = np.empty(0, np.int64)
    if bits.field(1):
        dims = int(np.prod(shape))
        (count,) = bits.rice(1).tolist()
        if not 0 < count <= dims:
            raise BadStream(f"{count} moved dims of {dims}")
        moved = np.cumsum(bits.rice(count) + 1) - 1
        shifts = unzigzag(bits.rice(count))
        if moved[-1] >= dims or not (np.abs(shifts) <= LARGEST_SHIFT).all():
            raise BadStream("a moved dim is out of range")
    return Side(_scaled(rates, scale), moved, shifts), bits.bytes_read()
