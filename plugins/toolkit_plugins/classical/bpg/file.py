"""The .bpg file (BPG specification, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.codec.metadata import NO_METADATA, Metadata
from toolkit_plugins.classical.bpg import hevc
from toolkit_plugins.classical.bpg.bits import BitReader, BitWriter, read_ue7, ue7

MAGIC = b"BPG\xfb"
GRAY, C420, C422, C444 = range(4)
YCBCR, RGB, YCGCO, BT709, BT2020 = range(5)
_ALPHA_LAYER = 1
_EXTENDED = 0b1000
"""Bit of the sixth byte."""
_EXIF, _ICC = 1, 2
"""Tags of extensions."""


@dataclass(frozen=True)
class Plane:
    """An HEVC picture: colour, or alpha, which is a gray picture of its own."""

    tools: hevc.CodingTools
    units: tuple[bytes, ...]
    """NAL units but for the parameter sets that BPG leaves out."""


@dataclass(frozen=True)
class BpgFile:
    """A still picture."""

    width: int
    height: int
    chroma: int
    """0 gray, 1 4:2:0, 2 4:2:2, 3 4:4:4; 4 and 5 as 1 and 2 with MPEG-2's chroma positions."""
    colour_space: int
    depth: int
    limited_range: bool
    colour: Plane
    alpha: Plane | None = None
    premultiplied: bool = False
    metadata: Metadata = NO_METADATA

    def coded_size(self, plane: Plane) -> tuple[int, int]:
        """Width and height that are coded: padded to the smallest block."""
        side = plane.tools.block_side
        return -(-self.width // side) * side, -(-self.height // side) * side

    def stream(self, plane: Plane) -> bytes:
        """A plain HEVC byte stream of a plane."""
        chroma = GRAY if plane is self.alpha else self.chroma - 3 * (self.chroma > C444)
        width, height = self.coded_size(plane)
        sets = hevc.parameter_sets(plane.tools, width, height, chroma, self.depth)
        return hevc.byte_stream([*sets, *plane.units])


def write(file: BpgFile) -> bytes:
    """The file's bytes."""
    head = BitWriter()
    head.u(3, file.chroma)
    head.flag(file.alpha is not None)
    head.u(4, file.depth - 8)
    head.u(4, file.colour_space)
    head.flag(False)  # no extensions
    head.flag(file.alpha is not None and file.premultiplied)
    head.flag(file.limited_range)
    head.flag(False)  # no animation
    units = list(file.colour.units)
    body = b""
    if file.alpha is not None:
        body += _header(file.alpha.tools)
        units += [hevc.with_layer(unit, _ALPHA_LAYER) for unit in file.alpha.units]
    # the first start code is left out
    body += _header(file.colour.tools) + hevc.byte_stream(units)[3:]
    sizes = ue7(file.width) + ue7(file.height) + ue7(len(body))
    return MAGIC + head.bytes() + sizes + body


def read(data: bytes) -> BpgFile:
    """The content of a file; of an animation the first frame.

    Raises ValueError for a file that is cut, or is none. Sizes are as declared: unchecked.
    """
    chroma, space, depth, limited, alpha1, premultiplied, extended = _read_flags(data)
    width, at = read_ue7(data, 6)
    height, at = read_ue7(data, at)
    length, at = read_ue7(data, at)
    if not width or not height:
        raise ValueError("a picture without pixels")
    metadata = NO_METADATA
    if extended:
        size, at = read_ue7(data, at)
        metadata = _metadata(data[at : at + size])
        at += size
    end = at + length if length else len(data)
    if end > len(data):
        raise ValueError(f"the file ends at byte {len(data)} instead of {end}")
    alpha_tools = None
    if alpha1:
        alpha_tools, at = _read_header(data, at)
    tools, at = _read_header(data, at)
    colour, alpha = _split(hevc.nal_units(b"\x00\x00\x01" + data[at:end]))
    if not colour or (alpha1 and not alpha):
        raise ValueError("no picture data")
    return BpgFile(
        width,
        height,
        chroma,
        space,
        depth,
        limited,
        Plane(tools, colour),
        Plane(alpha_tools, alpha) if alpha_tools else None,
        premultiplied,
        metadata,
    )


def with_metadata(data: bytes, metadata: Metadata) -> bytes:
    """A file that has no extensions yet, with this metadata."""
    fields = [(_EXIF, metadata.exif), (_ICC, metadata.icc)]
    extensions = b"".join(ue7(tag) + ue7(len(field)) + field for tag, field in fields if field)
    if not extensions:
        return data
    at = 6
    for _ in range(3):  # width, height, length
        _, at = read_ue7(data, at)
    head = data[:5] + bytes([data[5] | _EXTENDED])
    return head + data[6:at] + ue7(len(extensions)) + extensions + data[at:]


def _metadata(extensions: bytes) -> Metadata:
    found, at = {_EXIF: b"", _ICC: b""}, 0
    while at < len(extensions):
        tag, at = read_ue7(extensions, at)
        size, at = read_ue7(extensions, at)
        found[tag] = extensions[at : at + size]
        at += size
    return Metadata(found[_EXIF], found[_ICC])


def _read_flags(data: bytes) -> tuple[int, int, int, bool, bool, bool, bool]:
    """Chroma, colour space, depth, limited range, alpha, whether premultiplied, extensions."""
    if data[:4] != MAGIC or len(data) < 6:
        raise ValueError("byte 0: not a BPG file")
    flags = BitReader(data[4:6])
    chroma, alpha1, depth = flags.u(3), flags.flag(), 8 + flags.u(4)
    space, extended, alpha2 = flags.u(4), flags.flag(), flags.flag()
    limited = flags.flag()
    if chroma > 5 or space > BT2020 or depth > 14:
        raise ValueError("bytes 4 and 5: a pixel format that BPG doesn't have")
    if alpha2 and not alpha1:
        raise ValueError("a CMYK picture")
    return chroma, space, depth, limited, alpha1, alpha2, extended


def _split(units: list[bytes]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Units of the colour and of the alpha plane, which its layer number marks."""
    whole = [unit for unit in units if len(unit) > 2]
    colour = tuple(unit for unit in whole if hevc.layer(unit) == 0)
    alpha = (unit for unit in whole if hevc.layer(unit) == _ALPHA_LAYER)
    return colour, tuple(hevc.with_layer(unit, 0) for unit in alpha)


def _header(tools: hevc.CodingTools) -> bytes:
    bits = BitWriter()
    hevc.write_tools(tools, bits)
    header = bits.bytes()
    return ue7(len(header)) + header


def _read_header(data: bytes, at: int) -> tuple[hevc.CodingTools, int]:
    length, at = read_ue7(data, at)
    if length > 64:
        raise ValueError(f"byte {at}: an HEVC header of {length} bytes")
    return hevc.read_tools(BitReader(data[at : at + length])), at + length
