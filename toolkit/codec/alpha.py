"""Lossless coding of an alpha plane, for codecs that know only colour.

A byte that names the filter, then raw deflate (RFC 1951) of the filtered plane. The filters are
None, Sub and Up of PNG (ISO/IEC 15948, section 9.2), one for the whole plane: masks are flat, and a
row of zeros is what deflate does best.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from toolkit.format.container import BadStream

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels

_NONE, _SUB, _UP = range(3)


def encode_alpha(plane: Pixels) -> bytes:
    """Code a uint8 plane (H, W) without loss, by the filter that makes it smallest."""
    candidates = []
    for kind in (_NONE, _SUB, _UP):
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        filtered = deflate.compress(_filter(plane, kind).tobytes()) + deflate.flush()
        candidates.append(bytes([kind]) + filtered)
    return min(candidates, key=len)


def decode_alpha(data: bytes, height: int, width: int) -> Pixels:
    """The plane (H, W), uint8, that ``encode_alpha`` coded.

    Never inflates more than ``height * width`` bytes. Raises BadStream for data that doesn't
    hold exactly one plane of this size.
    """
    if not data or data[0] > _UP:
        raise BadStream("alpha plane: unknown filter")
    inflate = zlib.decompressobj(-15)
    try:
        plane = inflate.decompress(data[1:], max(1, height * width))
        # the end marker may still be ahead when the plane is complete; one byte more is too many
        excess = b"" if inflate.eof else inflate.decompress(inflate.unconsumed_tail, 1)
    except zlib.error as error:
        raise BadStream(f"alpha plane: {error}") from None
    if excess or not inflate.eof or inflate.unused_data or len(plane) != height * width:
        raise BadStream(f"alpha plane: not {width} x {height} samples")
    return _unfilter(np.frombuffer(plane, np.uint8).reshape(height, width), data[0])


def _filter(plane: Pixels, kind: int) -> Pixels:
    """Differences to the left or upper neighbour, modulo 256."""
    if kind == _NONE:
        return plane
    axis = 1 if kind == _SUB else 0
    return np.diff(plane, axis=axis, prepend=np.uint8(0))


def _unfilter(filtered: Pixels, kind: int) -> Pixels:
    if kind == _NONE:
        return filtered.copy()
    return np.cumsum(filtered, axis=1 if kind == _SUB else 0, dtype=np.uint8)
