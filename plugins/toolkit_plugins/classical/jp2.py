"""EXIF and resolution as boxes of JP2 files (ISO/IEC 15444-1, annex I), which Pillow doesn't write.

EXIF is in a UUID box as ExifTool and ImageMagick have it. A colour profile isn't written: OpenJPEG
tells Pillow nothing of the colours of a file that has one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress

from toolkit.codec.metadata import Metadata

_EXIF_UUID = b"JpgTiffExif->JP2"
_METRES_AN_INCH = 0.0254


def with_metadata(data: bytes, metadata: Metadata) -> bytes:
    """A JP2 file as Pillow wrote it, with EXIF and resolution."""
    parts = []
    for kind, content in _boxes(data):
        if kind == b"jp2h" and metadata.resolution:
            content += _box(b"res ", _box(b"resc", _resolution(*metadata.resolution)))
        if kind == b"jp2c" and metadata.exif:
            parts.append(_box(b"uuid", _EXIF_UUID + metadata.exif))
        parts.append(_box(kind, content))
    return b"".join(parts)


def exif_in(data: bytes) -> bytes:
    """EXIF of a JP2 file, b"" where there is none; boxes that aren't whole are for its decoder to
    judge."""
    with suppress(ValueError):
        for kind, content in _boxes(data):
            if kind == b"uuid" and content.startswith(_EXIF_UUID):
                return content.removeprefix(_EXIF_UUID)
    return b""


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each box; none of a bare codestream. Raises ValueError for a box that
    isn't whole."""
    at = 0
    while data[:4] == b"\0\0\0\x0c" and at < len(data):
        if at + 8 > len(data):
            raise ValueError("cut within a box")
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            head = 16
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        elif size == 0:
            size = len(data) - at
        if size < head or at + size > len(data):
            raise ValueError("a box that isn't whole")
        yield kind, data[at + head : at + size]
        at += size


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _resolution(across: float, down: float) -> bytes:
    """Pixels per metre, down first, each as a fraction and a power of ten."""
    fractions, powers = [], []
    for value in (down / _METRES_AN_INCH, across / _METRES_AN_INCH):
        power = 0
        while value > 65_535:
            value, power = value / 10, power + 1
        below = max(1, int(65_535 / value))
        fractions += [round(value * below), below]
        powers.append(power)
    return struct.pack(">HHHHBB", *fractions, *powers)
