"""RGB and Y'CbCr of ITU-R BT.601, 8 bits, in full range (JFIF, BPG) or limited range (video)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from toolkit.codec.base import Pixels

    Floats = NDArray[np.float32]

RED, GREEN, BLUE = 0.299, 0.587, 0.114
"""Shares in luma (BT.601, 2.5.1)."""


def ycbcr(rgb: Pixels, limited: bool = False) -> Floats:
    """Y', Cb and Cr of uint8 (H, W, 3), not rounded; float32 (H, W, 3) from 0 to 255."""
    x = rgb.astype(np.float32)
    out = np.empty_like(x)
    luma = RED * x[:, :, 0] + GREEN * x[:, :, 1] + BLUE * x[:, :, 2]
    scale, offset, chroma = (219 / 255, 16.0, 224 / 255) if limited else (1.0, 0.0, 1.0)
    out[:, :, 0] = luma * scale + offset
    out[:, :, 1] = (x[:, :, 2] - luma) * (chroma / (2 - 2 * BLUE)) + 128
    out[:, :, 2] = (x[:, :, 0] - luma) * (chroma / (2 - 2 * RED)) + 128
    return out


def rgb(
    components: NDArray[Any], limited: bool = False, shares: tuple[float, float] = (RED, BLUE)
) -> Pixels:
    """The inverse of ``ycbcr``, rounded to uint8; components (H, W, 3) from 0 to 255.

    ``shares`` are those of red and blue in luma, for matrices other than BT.601's.
    """
    of_red, of_blue = shares
    x = components.astype(np.float32)
    scale, offset, chroma = (255 / 219, 16.0, 255 / 224) if limited else (1.0, 0.0, 1.0)
    luma = (x[:, :, 0] - offset) * scale
    blue = luma + (x[:, :, 1] - 128) * (chroma * (2 - 2 * of_blue))
    red = luma + (x[:, :, 2] - 128) * (chroma * (2 - 2 * of_red))
    green = (luma - of_red * red - of_blue * blue) / (1 - of_red - of_blue)
    return to_uint8(np.stack([red, green, blue], 2))


def to_uint8(values: Floats) -> Pixels:
    """Rounded and clipped."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
