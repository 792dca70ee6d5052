"""Metrics of a decoded image against its original, both uint8 (H, W, C) of one shape.

A metric that isn't defined for a pair (MS-SSIM of an image under 161 pixels a side) gives NaN,
one that has no bound (PSNR of equal images) infinity; rows hold null for both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels

MS_SSIM_SIDE = 161
"""Pixels a side that five scales with a window of 11 need: (11 - 1) 2^4 + 1."""


def psnr(original: Pixels, decoded: Pixels) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels; infinite if equal."""
    error = original.astype(np.int32) - decoded
    return _decibels(float(np.mean(np.square(error))))


def psnr_y(original: Pixels, decoded: Pixels) -> float:
    """PSNR in dB of the luma (ITU-R BT.601, full range, not rounded)."""
    weights = np.array([0.299, 0.587, 0.114])
    luma = [image[..., :3] @ weights for image in (original, decoded)]
    return _decibels(float(np.mean(np.square(luma[0] - luma[1]))))


def ms_ssim(original: Pixels, decoded: Pixels) -> float:
    """Multi-scale structural similarity (Wang, Simoncelli, Bovik 2003), five scales, 0 to 1.

    NaN under 161 pixels a side: fewer scales or a smaller window would give a number that
    can't be set beside the others.
    """
    if min(original.shape[:2]) < MS_SSIM_SIDE:
        return math.nan
    from pytorch_msssim import ms_ssim as library

    return _similarity(library, original, decoded)


def ssim(original: Pixels, decoded: Pixels) -> float:
    """Structural similarity (Wang et al. 2004), Gaussian window of 11; NaN for smaller images."""
    if min(original.shape[:2]) < 11:
        return math.nan
    from pytorch_msssim import ssim as library

    return _similarity(library, original, decoded)


def similarity_decibels(value: float | None) -> float | None:
    """-10 log10(1 - x), the scale on which MS-SSIM curves are drawn; None for None and 1."""
    return None if value is None or value >= 1 else -10 * math.log10(1 - value)


def _decibels(squared_error: float) -> float:
    return math.inf if squared_error == 0 else 10 * math.log10(255**2 / squared_error)


def _similarity(library: Callable[..., Any], original: Pixels, decoded: Pixels) -> float:
    """A similarity of pytorch_msssim, on channels-last tensors: over twice as fast."""
    import torch

    def tensor(image: Pixels) -> torch.Tensor:
        planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float()[None]
        return planes.contiguous(memory_format=torch.channels_last)

    with torch.inference_mode():
        return float(library(tensor(original), tensor(decoded), data_range=255))
