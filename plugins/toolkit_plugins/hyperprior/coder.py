"""Entropy coding of rounded latents: constriction's ANS coder, which no input can harm.

All that it is given is integers and multiples of 2^-17: counts of the tables, entries of a table
of scales, and dither. So nothing depends on how a machine rounds, except the indices into
those tables, of which files carry a hash.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.format.errors import BadHeader, BadStream
from toolkit.format.varint import Fields, varint
from toolkit_plugins.hyperprior.parameter_check import HASH_BYTES

Integers = NDArray[np.int32]
Floats = NDArray[np.float64]

LARGEST_SYMBOL = 2**15 - 1


@dataclass(frozen=True)
class HyperTables:
    """The factorized prior of z: for each channel the first symbol and the counts from it on."""

    first: list[int]
    counts: list[NDArray[np.int64]]

    def clip(self, symbols: Integers) -> Integers:
        """Symbols (C, H, W) moved into the tables: one in a million, unless training failed."""
        low = np.array(self.first)[:, None, None]
        high = low + np.array([len(c) - 1 for c in self.counts])[:, None, None]
        clipped: Integers = np.clip(symbols, low, high).astype(np.int32)
        return clipped

    def bytes(self) -> bytes:
        """What a hash of the tables is made of."""
        parts = [np.array([f, len(c), *c], "<i8").tobytes() for f, c in self]
        return b"".join(parts)

    def __iter__(self) -> Any:
        return zip(self.first, self.counts, strict=True)


def parameter_hash(tables: HyperTables, indices: NDArray[np.uint8] | None) -> bytes:
    """Hash of what encoder and decoder must have alike."""
    digest = hashlib.blake2b(tables.bytes(), digest_size=HASH_BYTES)
    if indices is not None:
        digest.update(np.ascontiguousarray(indices).tobytes())
    return digest.digest()


@dataclass(frozen=True)
class ScaleTable:
    """The scales that there are tables or models for, at most 256, ascending."""

    scales: Floats
    bounds: Floats
    """Up to which scale each stands, for all but the last."""

    def indices(self, scales: Floats) -> NDArray[np.uint8]:
        """Which entry stands for each scale."""
        return np.searchsorted(self.bounds, scales, side="left").astype(np.uint8)


def encode_hyper(symbols: Integers, tables: HyperTables) -> bytes:
    """Code z, (C, H, W), every symbol within its channel's table."""
    coder = _ans().AnsCoder()
    for channel, (first, counts) in reversed([*zip(symbols, tables, strict=True)]):
        coder.encode_reverse((channel - first).reshape(-1), _categorical(counts))
    return _to_bytes(coder)


def decode_hyper(data: bytes, shape: tuple[int, int, int], tables: HyperTables) -> Integers:
    """What ``encode_hyper`` coded. Raises BadStream."""
    coder = _from_bytes(data)
    out = np.empty(shape, np.int32)
    for channel, (first, counts) in zip(out, tables, strict=True):
        decoded = coder.decode(_categorical(counts), channel.size)
        channel[:] = decoded.reshape(channel.shape) + first
    _finish(coder)
    return out


def encode_gaussian(symbols: Integers, shift: Floats, scales: Floats) -> bytes:
    """Code integers k with probability ``Phi((k + shift + 1/2) / s) - Phi((k + shift - 1/2) / s)``,
    Phi the normal distribution function; arrays of one shape."""
    bound = max(1, int(np.abs(symbols).max(initial=0)))
    coder = _ans().AnsCoder()
    coder.encode_reverse(symbols.reshape(-1), _gaussian(bound), *_parameters(shift, scales))
    return varint(bound) + _to_bytes(coder)


def decode_gaussian(data: bytes, shift: Floats, scales: Floats) -> Integers:
    """What ``encode_gaussian`` coded. Raises BadStream."""
    fields = Fields(data, 0, len(data))
    try:
        bound = fields.number()
    except BadHeader as error:
        raise BadStream(f"stream of latents: {error}") from None
    if not 1 <= bound <= LARGEST_SYMBOL:
        raise BadStream(f"stream of latents: no encoder writes symbols up to {bound}")
    coder = _from_bytes(data[fields.at :])
    symbols: Integers = coder.decode(_gaussian(bound), *_parameters(shift, scales))
    _finish(coder)
    return symbols.reshape(scales.shape)


def _parameters(shift: Floats, scales: Floats) -> tuple[Floats, Floats]:
    means = np.ascontiguousarray(np.broadcast_to(-shift, scales.shape), np.float64)
    return means.reshape(-1), np.ascontiguousarray(scales, np.float64).reshape(-1)


def _ans() -> Any:
    import constriction

    return constriction.stream.stack


def _gaussian(bound: int) -> Any:
    import constriction

    return constriction.stream.model.QuantizedGaussian(-bound, bound)


def _categorical(counts: NDArray[np.int64]) -> Any:
    import constriction

    if len(counts) == 1:  # the library wants two symbols at least
        counts = np.append(counts, 0)
    probabilities = counts / counts.sum()
    return constriction.stream.model.Categorical(probabilities, perfect=False)


def _to_bytes(coder: Any) -> bytes:
    """Little-endian words; zeros at the end, the state's empty top, aren't written."""
    words: NDArray[np.uint32] = coder.get_compressed()
    return words.astype("<u4").tobytes().rstrip(b"\0")


def _from_bytes(data: bytes) -> Any:
    if data.endswith(b"\0"):
        raise BadStream("not a stream of the ANS coder: it ends with a zero")
    words = np.frombuffer(data + bytes(-len(data) % 4), "<u4").astype(np.uint32)
    return _ans().AnsCoder(words)


def _finish(coder: Any) -> None:
    """Decoding takes the coder back to the state in which encoding began, or it went wrong."""
    if not coder.is_empty():
        raise BadStream("the stream doesn't end with its last symbol: damaged")
