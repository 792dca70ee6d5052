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

    from toolkit.codec import Pixels

_SHARES = {
    file.YCBCR: (colour.RED, colour.BLUE),
    file.BT709: (0.2126, 0.0722),
    file.BT2020: (0.2627, 0.0593),
}
"""Shares of red and blue in luma."""


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
        half = (padded.shape[1] // 2, padded.shape[0] // 2)
        planes[1:] = [_resize(plane, half) for plane in planes[1:]]
    return [colour.to_uint8(plane) for plane in planes]


def to_pixels(planes: Sequence[NDArray[np.generic]], picture: file.BpgFile) -> Pixels:
    """The inverse, cropped to the picture; uint8 (H, W, 1 or 3).

    Raises ValueError for planes that don't fit the picture's declared format.
    """
    if len(planes) != (1 if picture.chroma == file.GRAY else 3):
        raise ValueError(f"{len(planes)} planes instead of those of the declared format")
    height, width = planes[0].shape
    scale = 255 / (2**picture.depth - 1)
    if picture.limited_range:
        scale = 2.0 ** (8 - picture.depth)
    full = [
        _resize(plane.astype(np.float32) * np.float32(scale), (width, height)) for plane in planes
    ]
    samples = np.stack(full, 2)[: picture.height, : picture.width]
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


def _resize(plane: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """To ``size``, (width, height), samples lying in the middle of those they stand for, as
    in JPEG."""
    if plane.shape == size[::-1]:
        return plane
    picture = Image.fromarray(np.ascontiguousarray(plane))
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
