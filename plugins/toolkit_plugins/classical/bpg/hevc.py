"""The part of HEVC's high-level syntax that BPG takes apart and puts together (H.265, 7.3).

BPG leaves out the video and sequence parameter sets and keeps in their place the few fields
that pictures differ in; the rest is implied.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from toolkit_plugins.classical.bpg.bits import BitReader, BitWriter

VPS, SPS, PPS = 32, 33, 34
_START = b"\x00\x00\x01"
_RANGE_EXTENSION_FLAGS = 9


@dataclass(frozen=True)
class CodingTools:
    """The fields of a sequence parameter set (7.3.2.2.1) that BPG keeps, in BPG's order."""

    blocks: tuple[int, int, int, int, int]
    """log2_min_luma_coding_block_size_minus3, log2_diff_max_min_luma_coding_block_size,
    log2_min_transform_block_size_minus2, log2_diff_max_min_transform_block_size,
    max_transform_hierarchy_depth_intra."""
    sao: bool
    pcm: tuple[int, int, int, int, int] | None
    """Two bit depths less one, log2 of the smallest size less 3, of the range, loop filter."""
    strong_intra_smoothing: bool
    range_extension: tuple[bool, ...] | None = None

    @property
    def block_side(self) -> int:
        """Smallest coding block: coded pictures are multiples of it."""
        return 8 << self.blocks[0]


def nal_units(stream: bytes) -> list[bytes]:
    """NAL units of a byte stream (Annex B), headers and emulation prevention included."""
    units = re.split(b"\x00\x00\x01", stream)[1:]
    return [unit.rstrip(b"\x00") for unit in units]


def byte_stream(units: Iterable[bytes]) -> bytes:
    """The inverse of ``nal_units``."""
    return b"".join(_START + unit for unit in units)


def unit_type(unit: bytes) -> int:
    return unit[0] >> 1 & 0x3F


def layer(unit: bytes) -> int:
    return (unit[0] & 1) << 5 | unit[1] >> 3


def with_layer(unit: bytes, number: int) -> bytes:
    """``unit`` with another nuh_layer_id."""
    head = bytes([unit[0] & 0xFE | number >> 5, (number & 31) << 3 | unit[1] & 7])
    return head + unit[2:]


def read_tools(bits: BitReader) -> CodingTools:
    """From BPG's hevc_header. Raises ValueError for values that no picture can have."""
    blocks = (bits.ue(), bits.ue(), bits.ue(), bits.ue(), bits.ue())
    sao, pcm = bits.flag(), _read_pcm(bits)
    strong, extension = bits.flag(), None
    if bits.flag():
        if bits.u(8) != 0x80:
            raise ValueError("an extension of HEVC that isn't supported")
        extension = tuple(bits.flag() for _ in range(_RANGE_EXTENSION_FLAGS))
    if sum(blocks[:2]) > 3 or sum(blocks[2:4]) > 3 or blocks[4] > 4:
        raise ValueError("block sizes that HEVC doesn't have")
    return CodingTools(blocks, sao, pcm, strong, extension)


def write_tools(tools: CodingTools, bits: BitWriter) -> None:
    """As BPG's hevc_header."""
    for value in tools.blocks:
        bits.ue(value)
    bits.flag(tools.sao)
    _write_pcm(tools, bits)
    bits.flag(tools.strong_intra_smoothing)
    _write_extension(tools, bits)


def tools_of(unit: bytes) -> CodingTools:
    """From a sequence parameter set, as an encoder wrote it.

    Raises ValueError for one with fields that BPG can't imply.
    """
    bits = BitReader(unit[2:].replace(b"\x00\x00\x03", b"\x00\x00"))
    if bits.u(4) or bits.u(3):
        raise ValueError("more than one sub-layer")
    bits.u(1 + 96)  # temporal nesting; profile, tier and level
    bits.ue()
    if bits.ue() == 3 and bits.flag():
        raise ValueError("separate colour planes")
    bits.ue(), bits.ue()
    if bits.flag():
        raise ValueError("a conformance window")
    bits.ue(), bits.ue()
    if bits.ue() != 4:
        raise ValueError("picture order counts of other than 8 bits")
    bits.u(1)
    bits.ue(), bits.ue(), bits.ue()
    sizes = (bits.ue(), bits.ue(), bits.ue(), bits.ue())
    bits.ue()
    blocks = (*sizes, bits.ue())
    if bits.flag():
        raise ValueError("scaling lists")
    bits.u(1)
    sao, pcm = bits.flag(), _read_pcm(bits)
    if bits.ue() or bits.flag():
        raise ValueError("reference pictures")
    bits.u(1)
    return CodingTools(blocks, sao, pcm, bits.flag())


def parameter_sets(
    tools: CodingTools, width: int, height: int, chroma_format: int, depth: int
) -> list[bytes]:
    """Video and sequence parameter sets for a picture of ``width`` x ``height`` samples,
    multiples of the smallest block, and ``depth`` bits."""
    return [
        _video_parameter_set(),
        _sequence_parameter_set(tools, width, height, chroma_format, depth),
    ]


def _video_parameter_set() -> bytes:
    bits = BitWriter()
    bits.u(4, 0)
    bits.u(2, 3)  # base layer internal, available
    bits.u(6, 0)
    bits.u(3, 0)
    bits.flag(True)
    bits.u(16, 0xFFFF)
    _write_profile(bits)
    _write_buffering(bits)
    bits.u(6, 0)
    bits.ue(0)
    bits.u(2, 0)  # no timing, no extension
    return _unit(VPS, bits)


def _sequence_parameter_set(
    tools: CodingTools, width: int, height: int, chroma_format: int, depth: int
) -> bytes:
    bits = BitWriter()
    bits.u(4, 0)
    bits.u(3, 0)
    bits.flag(True)
    _write_profile(bits)
    bits.ue(0)
    bits.ue(chroma_format)
    if chroma_format == 3:
        bits.flag(False)
    bits.ue(width)
    bits.ue(height)
    bits.flag(False)
    bits.ue(depth - 8)
    bits.ue(depth - 8)
    bits.ue(4)  # picture order counts of 8 bits
    _write_buffering(bits)
    for value in (*tools.blocks[:4], tools.blocks[4], tools.blocks[4]):
        bits.ue(value)
    bits.flag(False)
    bits.flag(True)  # asymmetric partitions
    bits.flag(tools.sao)
    _write_pcm(tools, bits)
    bits.ue(0)
    bits.flag(False)
    bits.flag(True)  # temporal motion vector prediction
    bits.flag(tools.strong_intra_smoothing)
    bits.flag(False)
    _write_extension(tools, bits)
    return _unit(SPS, bits)


def _write_profile(bits: BitWriter) -> None:
    """Profile, tier and level (7.3.3): format range extensions, level 8.5, no constraints."""
    bits.u(8, 4)
    bits.u(32, 1 << 31 - 4)
    bits.u(4, 0b1001)  # progressive, frames only
    bits.u(44, 0)
    bits.u(8, 255)


def _write_buffering(bits: BitWriter) -> None:
    bits.flag(True)
    for _ in range(3):
        bits.ue(0)


def _read_pcm(bits: BitReader) -> tuple[int, int, int, int, int] | None:
    if not bits.flag():
        return None
    return bits.u(4), bits.u(4), bits.ue(), bits.ue(), bits.u(1)


def _write_pcm(tools: CodingTools, bits: BitWriter) -> None:
    bits.flag(tools.pcm is not None)
    if tools.pcm is not None:
        luma, chroma, smallest, span, unfiltered = tools.pcm
        bits.u(4, luma)
        bits.u(4, chroma)
        bits.ue(smallest)
        bits.ue(span)
        bits.u(1, unfiltered)


def _write_extension(tools: CodingTools, bits: BitWriter) -> None:
    bits.flag(tools.range_extension is not None)
    if tools.range_extension is not None:
        bits.u(8, 0x80)
        for flag in tools.range_extension:
            bits.flag(flag)


def _unit(kind: int, bits: BitWriter) -> bytes:
    """A NAL unit (7.3.1): header, stop bit, emulation prevention."""
    bits.flag(True)
    payload = re.sub(b"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", bits.bytes())
    return bytes([kind << 1, 1]) + payload
