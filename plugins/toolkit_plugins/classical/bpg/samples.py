"""Pixels to the planes that BPG codes, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from toolkit_plugins.classical import colour
from toolkit_plugins.classical.bpg import file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from toolkit.codec.base import Pixels

    Floats = NDArray[np.float32]

_SHARES = {
    file.YCBCR: (colour.RED, colour.BLUE),
    file.BT709: (0.2126, 0.0722),
    file.BT2020: (0.2627, 0.0593),
}
"""Shares of red and blue in luma."""
_BAND = 256
"""Rows that are converted at a time; even."""
_REACH = 4
"""Rows of chroma beside a band that its samples depend on."""


def to_planes(pixels: Pixels, chroma: int, space: int, multiple: int) -> list[Pixels]:
    """Planes of uint8 (H, W, 1 or 3) pixels, padded to multiples by repeating the edge.

    ``chroma`` and ``space`` are BPG's numbers: 4:4:4 or 4:2:0, Y'CbCr or RGB.
    """
    height, width, channels = pixels.shape
    edge = ((0, -height % multiple), (0, -width % multiple), (0, 0))
    padded = np.pad(pixels, edge, "edge")
    if channels == 1:
        return [padded[:, :, 0]]
    if space == file.RGB:
        return [np.ascontiguousarray(padded[:, :, i]) for i in (1, 2, 0)]
    samples = colour.ycbcr(padded)
    planes = [samples[:, :, i] for i in range(3)]
    if chroma == file.C420:
        planes[1:] = [_halved(plane) for plane in planes[1:]]
    return [colour.to_uint8(plane) for plane in planes]


def to_pixels(planes: Sequence[NDArray[np.generic]], picture: file.BpgFile) -> Pixels:
    """The inverse, cropped to the picture; uint8 (H, W, 1 or 3).

    Rows are converted a band at a time: as floats a whole picture would take ten times as much.
    Raises ValueError for planes that don't fit the picture's declared format.
    """
    if len(planes) != (1 if picture.chroma == file.GRAY else 3):
        raise ValueError(f"{len(planes)} planes instead of those of the declared format")
    shape = planes[0].shape
    for plane in planes:
        sides = zip(plane.shape, shape, strict=True)
        if any(side not in (whole, whole / 2) for side, whole in sides):
            raise ValueError("planes that don't fit each other")
    scale = np.float32(255 / (2**picture.depth - 1))
    if picture.limited_range:
        scale = np.float32(2.0 ** (8 - picture.depth))
    pixels = np.empty((picture.height, picture.width, len(planes)), np.uint8)
    for start in range(0, picture.height, _BAND):
        stop = min(start + _BAND, shape[0])
        band = [_band(plane, start, stop, shape, scale) for plane in planes]
        pixels[start:stop] = _colours(band, picture)[: picture.height - start]
    return pixels


def _band(
    plane: NDArray[np.generic], start: int, stop: int, shape: tuple[int, ...], scale: np.float32
) -> Floats:
    """Rows ``start`` (even) to ``stop`` of a plane at full size ``shape``, times ``scale``."""
    if plane.shape[0] == shape[0]:
        rows = plane[start:stop].astype(np.float32) * scale
    else:
        first, last = max(0, start // 2 - _REACH), -(-stop // 2) + _REACH
        wide = _doubled(plane[first:last].astype(np.float32) * scale, 0)
        rows = wide[start - 2 * first : stop - 2 * first]
    return rows if plane.shape[1] == shape[1] else _doubled(rows, 1)


def _colours(band: Sequence[Floats], picture: file.BpgFile) -> Pixels:
    """Rows of all planes, at full size and from 0 to 255, as the file's pixels."""
    samples = np.stack([plane[:, : picture.width] for plane in band], 2)
    if picture.chroma == file.GRAY:
        level = (samples - 16) * (255 / 219) if picture.limited_range else samples
        return colour.to_uint8(level)
    if picture.colour_space == file.RGB:
        return colour.to_uint8(samples[:, :, [2, 0, 1]])
    if picture.colour_space == file.YCGCO:
        luma, green, orange = (samples[:, :, i] - 128 * (i > 0) for i in range(3))
        rest = luma - green
        return colour.to_uint8(np.stack([rest + orange, luma + green, rest - orange], 2))
    return colour.rgb(samples, picture.limited_range, _SHARES[picture.colour_space])


def _halved(plane: Floats) -> Floats:
    """4:2:0 chroma, each sample in the middle of the four that it stands for, as in JPEG."""
    size = (plane.shape[1] // 2, plane.shape[0] // 2)
    picture = Image.fromarray(np.ascontiguousarray(plane))
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS))


def _doubled(plane: Floats, axis: int) -> Floats:
    """Twice the samples along ``axis``, a quarter before and after those there are.

    Lanczos windowed sinc of 8 taps; with it the pixels of 4:2:0 files are within 2 of those
    that bpgdec shows.
    """
    rows = np.moveaxis(plane, axis, 0)
    count = len(rows)
    wide = np.pad(rows, ((4, 4), (0, 0)), "edge")
    after = sum(tap * wide[k + 1 : k + 1 + count] for k, tap in enumerate(_TAPS))
    before = sum(tap * wide[7 - k : 7 - k + count] for k, tap in enumerate(_TAPS))
    out = np.empty((2 * count, rows.shape[1]), np.float32)
    out[0::2], out[1::2] = before, after
    return np.moveaxis(out, 0, axis)


def _taps() -> Floats:
    """Weights of samples 3 before to 4 after, at a quarter after."""
    distance = np.arange(-3, 5) - 0.25
    weights = np.sinc(distance) * np.sinc(distance / 4)
    return (weights / weights.sum()).astype(np.float32)


_TAPS = _taps()
