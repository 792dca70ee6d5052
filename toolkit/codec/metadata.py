"""What belongs to a picture beside its pixels: EXIF, ICC profile, resolution.

In a ``.qf`` file it is the ancillary stream ``+m``: raw deflate (RFC 1951) of fields, each a kind
(varint) and a block. Kinds: 1 EXIF, as TIFF (JEITA CP-3451, section 4.5); 2 ICC profile; 3
resolution, two varints, across and down, in thousandths of a pixel per inch. Others are skipped.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.format.container import BadStream, Stream
from toolkit.format.errors import BadHeader
from toolkit.format.varint import Fields, block, varint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from toolkit.codec.pixels import Pixels

METADATA = "+m"
"""Name of the stream."""
MOST_BYTES = 2**24
"""Larger metadata is left out by encoders, and refused by decoders."""
_EXIF, _ICC, _RESOLUTION = 1, 2, 3
_ORIENTATION = 0x0112
_EXIF_PREFIX = b"Exif\0\0"
_TIFF_ENDS = {b"II*\0": "<", b"MM\0*": ">"}
_PROFILE_MODES = {b"GRAY": ("L",), b"RGB ": ("RGB", "RGBA")}


@dataclass(frozen=True)
class Metadata:
    """Of one picture; empty where there is none."""

    exif: bytes = b""
    """A TIFF structure, without ``Exif`` and zeros before it."""
    icc: bytes = b""
    """An ICC profile."""
    resolution: tuple[float, float] | None = None
    """Pixels per inch, across and down."""

    def __bool__(self) -> bool:
        return bool(self.kinds)

    @property
    def kinds(self) -> frozenset[str]:
        """Names of the fields that hold something."""
        return frozenset(name for name in ("exif", "icc", "resolution") if getattr(self, name))

    def only(self, kinds: frozenset[str]) -> Metadata:
        """The fields that are among ``kinds``; others empty."""
        return Metadata(**{name: getattr(self, name) for name in self.kinds & kinds})

    def words(self) -> str:
        """For a person."""
        said = [f"EXIF {len(self.exif)} bytes"] if self.exif else []
        said += [f"ICC profile {len(self.icc)} bytes"] if self.icc else []
        if self.resolution:
            said.append("{:g} x {:g} pixels per inch".format(*self.resolution))
        return ", ".join(said)

    def saved(self) -> dict[str, Any]:
        """Arguments for ``Image.save`` of Pillow."""
        names = {"exif": "exif", "icc": "icc_profile", "resolution": "dpi"}
        found = {names[kind]: getattr(self, kind) for kind in self.kinds}
        if self.exif:
            found["exif"] = _EXIF_PREFIX + self.exif  # JPEG's writer wants it, others skip it
        return found


NO_METADATA = Metadata()


def metadata_of(image: Any) -> Metadata:
    """Of a PIL image whose pixels are loaded: some formats have it behind them. EXIF that can't
    be read is none."""
    info = image.info
    exif = info.get("exif")
    if not isinstance(exif, bytes) or not exif:
        try:
            exif = _described(image)
        except Exception:  # readers of damaged EXIF raise whatever they like
            exif = b""
    icc = info.get("icc_profile")
    return Metadata(
        exif=exif.removeprefix(_EXIF_PREFIX),
        icc=icc if isinstance(icc, bytes) else b"",
        resolution=_resolution(info.get("dpi")),
    )


def _described(image: Any) -> bytes:
    """EXIF of a picture that has it as fields of its own (TIFF, XMP); b"" where there is none."""
    from PIL import ExifTags, Image

    known, found = image.getexif(), Image.Exif()
    base = ExifTags.Base
    for tag in (
        base.ImageDescription, base.Make, base.Model, base.Software, base.DateTime, base.Artist,
        base.Copyright, base.Orientation,
    ):  # fmt: skip
        if tag in known:
            found[tag] = known[tag]
    for part in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if part in known and (fields := known.get_ifd(part)):
            found.get_ifd(part).update(fields)
            found[part] = 0  # where it lies: filled in when written
    return found.tobytes() if len(found) else b""


def _resolution(found: Any) -> tuple[float, float] | None:
    try:
        across, down = (float(value) for value in found)
    except (TypeError, ValueError, ArithmeticError):
        return None
    # 1 is what readers say where a file says nothing
    return (across, down) if 1 < across < 1e6 and 1 < down < 1e6 else None


def fitting(metadata: Metadata, mode: str) -> tuple[Metadata, str]:
    """What can be carried, and what to say of the rest: a profile of colours for a gray picture,
    say, which other programs would refuse."""
    if len(metadata.exif) + len(metadata.icc) > MOST_BYTES:
        return NO_METADATA, f"its metadata has over {MOST_BYTES >> 20} MiB: left out"
    wrong = []
    if metadata.exif and not _readable(metadata.exif):
        metadata = replace(metadata, exif=b"")
        wrong.append("its EXIF is damaged")
    if metadata.icc and mode not in _PROFILE_MODES.get(metadata.icc[16:20], ()):
        metadata = replace(metadata, icc=b"")
        wrong.append("its colour profile isn't one of its pixels")
    return metadata, f"{', '.join(wrong)}: left out" if wrong else ""


def _readable(exif: bytes) -> bool:
    """Whether writers that take EXIF apart will be able to."""
    from PIL import Image

    try:
        Image.Exif().load(exif)
    except Exception:  # readers of damaged EXIF raise whatever they like
        return False
    return True


# -- orientation -----------------------------------------------------------------


def upright(pixels: Pixels, metadata: Metadata) -> tuple[Pixels, Metadata]:
    """The picture turned as its EXIF says it is to be seen, and EXIF that says so no more."""
    places = list(_orientation_places(metadata.exif))
    value = places[0][1] if places else 1
    if not 2 <= value <= 8:
        return pixels, metadata
    exif = bytearray(metadata.exif)
    for at, _, form in places:
        struct.pack_into(form, exif, at, 1)
    return turned(pixels, value), replace(metadata, exif=bytes(exif))


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Pixels (H, W, C) stored in one of EXIF's orientations, 1 to 8, as they are to be seen."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _orientation_places(exif: bytes) -> Iterator[tuple[int, int, str]]:
    """Where in the first directory an orientation stands, what it says, and how it is packed."""
    end = _TIFF_ENDS.get(exif[:4])
    if end is None or len(exif) < 8:
        return
    (at,) = struct.unpack_from(f"{end}I", exif, 4)
    if at + 2 > len(exif):
        return
    (count,) = struct.unpack_from(f"{end}H", exif, at)
    for entry in range(at + 2, min(at + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind, number = struct.unpack_from(f"{end}HHI", exif, entry)
        if tag == _ORIENTATION and kind == 3 and number == 1:
            form = f"{end}H"
            yield entry + 8, struct.unpack_from(form, exif, entry + 8)[0], form


# -- in .qf files ------------------------------------------------------------------


def pack_metadata(metadata: Metadata) -> Stream:
    """The stream of a file."""
    fields = [(_EXIF, metadata.exif), (_ICC, metadata.icc)]
    if metadata.resolution:
        across, down = (varint(round(1000 * value)) for value in metadata.resolution)
        fields.append((_RESOLUTION, across + down))
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = b"".join(varint(kind) + block(data) for kind, data in fields if data)
    return Stream(METADATA, deflate.compress(packed) + deflate.flush())


def unpack_metadata(data: bytes) -> Metadata:
    """What ``pack_metadata`` packed. Raises BadStream."""
    inflate = zlib.decompressobj(-15)
    try:
        packed = inflate.decompress(data, MOST_BYTES + 64)
    except zlib.error as error:
        raise BadStream(f"metadata: {error}") from None
    if not inflate.eof or inflate.unused_data:
        raise BadStream("metadata: damaged, or too large")
    fields, found = Fields(packed, 0, len(packed)), Metadata()
    try:
        while fields.at < fields.end:
            kind, content = fields.number(), fields.bytes(fields.number())
            if kind == _RESOLUTION:
                inner = Fields(content, 0, len(content))
                values = inner.number() / 1000, inner.number() / 1000
                found = replace(found, resolution=_resolution(values))
            elif kind == _EXIF:
                found = replace(found, exif=content)
            elif kind == _ICC:
                found = replace(found, icc=content)
    except BadHeader as error:
        raise BadStream(f"metadata: {error}") from None
    return found
