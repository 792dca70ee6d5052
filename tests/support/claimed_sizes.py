"""Small coded files made to claim other sizes, each codec's in its own way; the rest stays."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

from toolkit.format.container import read_container, write_container
from toolkit_plugins.classical.bpg.bits import read_ue7, ue7


def container(data: bytes, side: int) -> bytes:
    """A ``.qf`` file."""
    return write_container(replace(read_container(data), width=side, height=side))


def _packed(data: bytes, marker: bytes, offset: int, form: str, side: int) -> bytes:
    """Height and width, or width and height, behind a marker."""
    at = data.index(marker) + offset
    changed = bytearray(data)
    struct.pack_into(form, changed, at, side, side)
    return bytes(changed)


def jpeg(data: bytes, side: int) -> bytes:
    return _packed(data, b"\xff\xc0", 5, ">HH", side)


def webp(data: bytes, side: int) -> bytes:
    return _packed(data, b"\x9d\x01\x2a", 3, "<HH", side)


def jpeg2000(data: bytes, side: int) -> bytes:
    data = _packed(data, b"ihdr", 4, ">II", side)
    data = _packed(data, b"\xff\x51", 6, ">II", side)
    return _packed(data, b"\xff\x51", 22, ">II", side)


def image_spatial_extents(data: bytes, side: int) -> bytes:
    """Of AVIF and HEIC."""
    return _packed(data, b"ispe", 8, ">II", side)


def bpg(data: bytes, side: int) -> bytes:
    _, at = read_ue7(data, 6)
    _, at = read_ue7(data, at)
    return data[:6] + ue7(side) + ue7(side) + data[at:]


def jxl(data: bytes, side: int) -> bytes:
    """A bare codestream whose picture's sides are multiples of 8, up to 256."""
    bits = int.from_bytes(data[2:], "little")
    ratio = bits >> 6 & 7
    rest = bits >> (9 if ratio else 14)
    # not small; 18 bits of height less 1; ratio 1 to 1
    size = 2 << 1 | (side - 1) << 3 | 1 << 21
    return data[:2] + (size | rest << 24).to_bytes(len(data) + 4, "little")


CLAIMING: dict[str, tuple[float, Callable[[bytes, int], bytes]]] = {
    "jpeg": (20, jpeg),
    "webp": (5, webp),
    "jpeg2000": (100, jpeg2000),
    "avif": (5, image_spatial_extents),
    "heic": (5, image_spatial_extents),
    "bpg": (45, bpg),
    "jxl": (10, jxl),
    "pln": (0.1, container),
    "deep-pln": (0.1, container),
    "hyperprior": (0.0, container),
}
"""Preset -> a point with small files, and what makes them claim another size."""
