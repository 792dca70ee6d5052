"""HEVC pictures by the x265 encoder and the decoder inside the ``av`` package (FFmpeg)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from toolkit_plugins.classical.bpg import hevc
from toolkit_plugins.classical.bpg.file import C420, C422, C444, GRAY, Plane

FORMATS = {GRAY: "gray", C420: "yuv420p", C422: "yuv422p", C444: "yuv444p"}

# One intra picture with a constant quantizer, in one thread, so that a picture has one file; no
# psychovisual terms, which cost 1 dB at the same rate: what is compared here is PSNR.
_SETTINGS = (
    "keyint=1:psy-rd=0:psy-rdoq=0:aq-mode=0:pools=none:frame-threads=1:wpp=0:"
    "info=0:log-level=none:repeat-headers=1:hash=0"
)


_KEPT = (*range(hevc.VPS), hevc.PPS)
"""Unit types that BPG keeps: slices and picture parameter sets."""


def block_side(height: int, width: int) -> int:
    """What the sides of a coded picture must be multiples of: x265 codes none below 16."""
    return 8 if min(height, width) > 8 else 16


def _blocks(height: int, width: int) -> str:
    """x265's block sizes: no larger than the picture."""
    side = min(height, width)
    tree = 64 if side >= 64 else 32 if side >= 32 else 16
    return f"ctu={tree}:min-cu-size={16 if side == 16 else 8}"


def encode(planes: Sequence[NDArray[np.uint8]], chroma: int, qp: int, preset: str) -> Plane:
    """Code 8-bit planes, (H, W) or half that where ``chroma`` says so; H and W of the first
    one are multiples of ``block_side(H, W)``.

    Raises RuntimeError where x265 doesn't code what BPG can hold.
    """
    height, width = planes[0].shape
    context: Any = av.CodecContext.create("libx265", "w")
    context.width, context.height = width, height
    context.pix_fmt = FORMATS[chroma]
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    context.thread_count = 1
    context.options = {
        "preset": preset,
        "x265-params": f"qp={qp}:{_blocks(height, width)}:{_SETTINGS}",
    }
    frame = av.VideoFrame(width, height, FORMATS[chroma])
    for target, source in zip(frame.planes, planes, strict=True):
        rows = np.zeros((target.height, target.line_size), np.uint8)
        rows[:, : target.width] = source
        target.update(rows.tobytes())
    packets = [*context.encode(frame), *context.encode(None)]
    units = hevc.nal_units(b"".join(bytes(packet) for packet in packets))
    sets = [unit for unit in units if hevc.unit_type(unit) == hevc.SPS]
    kept = tuple(
        unit for unit in units if hevc.unit_type(unit) < 32 or hevc.unit_type(unit) == hevc.PPS
    )
    if not sets or len(kept) < 2:
        raise RuntimeError("x265 wrote no picture")
    return Plane(hevc.tools_of(sets[0]), kept)


def decode(stream: bytes, width: int, height: int) -> list[NDArray[np.generic]]:
    """Planes, (H, W) or smaller, uint8 or for more than 8 bits uint16, of the first picture.

    Raises ValueError for a stream that doesn't decode to a picture of this size.
    """
    context: Any = av.CodecContext.create("hevc", "r")
    context.thread_count = 1
    context.options = {"err_detect": "explode"}
    try:
        frames = [*context.decode(av.Packet(stream)), *context.decode(None)]
    except av.FFmpegError as error:
        raise ValueError(f"HEVC data that can't be decoded: {error.strerror}") from None
    if not frames or frames[0].is_corrupt:
        raise ValueError("HEVC data that can't be decoded")
    frame = frames[0]
    if (frame.width, frame.height) != (width, height):
        raise ValueError(f"a picture of {frame.width}x{frame.height} samples")
    planes: list[NDArray[np.generic]] = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, "<u2" if frame.format.components[0].bits > 8 else "u1")
        planes.append(rows.reshape(plane.height, -1)[:, : plane.width])  # the frame's own memory
    return planes


def versions() -> dict[str, str]:
    """Of the libraries."""
    codec = ".".join(str(part) for part in av.library_versions["libavcodec"])
    return {"av": av.__version__, "libavcodec": codec}
