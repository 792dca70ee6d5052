"""Files of 16 bits a sample, which Pillow doesn't write."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np


def png16(path: Path, samples: np.ndarray) -> Path:
    """A PNG of samples (H, W, C), C being 1 to 4."""
    height, width, channels = samples.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + row.tobytes() for row in samples.astype(">u2"))
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    return path


def tiff16(path: Path, samples: np.ndarray, end: str, deflated: bool) -> Path:
    """A TIFF of samples (H, W, C), C being 1, 3 or 4; ``end`` is < or > for the order of bytes."""
    height, width, channels = samples.shape
    data = samples.astype(f"{end}u2").tobytes()
    data = zlib.compress(data) if deflated else data
    depths = struct.pack(f"{end}{channels}H", *[16] * channels)
    behind = 8 + len(data)
    entries = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, channels, behind),
        (259, 3, 1, 8 if deflated else 1), (262, 3, 1, 1 if channels == 1 else 2), (273, 4, 1, 8),
        (277, 3, 1, channels), (278, 3, 1, height), (279, 4, 1, len(data)),
    ]  # fmt: skip
    if channels == 4:
        entries.append((338, 3, 1, 2))
    if channels == 1:
        entries[2] = (258, 3, 1, 16)
    directory = struct.pack(f"{end}H", len(entries))
    for tag, kind, count, value in entries:
        short = kind == 3 and count == 1
        directory += struct.pack(f"{end}HHI{'HH' if short else 'I'}", tag, kind, count, value,
                                 *([0] if short else []))  # fmt: skip
    head = (b"II*\0" if end == "<" else b"MM\0*") + struct.pack(f"{end}I", behind + len(depths))
    path.write_bytes(head + data + depths + directory + bytes(4))
    return path
