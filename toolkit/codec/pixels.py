"""Pixels as uint8 arrays, and between the modes L, RGB and RGBA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from toolkit.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Pixels: TypeAlias = "NDArray[np.uint8]"

CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
MODES = {channels: mode for mode, channels in CHANNELS.items()}


def checked(array: NDArray[Any]) -> Pixels:
    """An array (H, W) or (H, W, C) as pixels (H, W, C). Raises InputError for one that is none."""
    if array.dtype != np.uint8:
        raise InputError(f"an image array must be uint8, not {array.dtype}")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in MODES or 0 in array.shape:
        raise InputError(f"an image array must be (H, W, 1, 3 or 4), not {array.shape}")
    return np.ascontiguousarray(array)


def mode_of(pixels: Pixels) -> str:
    """``L``, ``RGB`` or ``RGBA``."""
    return MODES[pixels.shape[2]]


def from_rgb(rgb: Pixels, mode: str, alpha: Pixels | None) -> Pixels:
    """RGB as decoded -> L (the mean of three channels that were equal), RGB, or RGBA."""
    if mode == "L":
        total = rgb.sum(axis=2, dtype=np.uint16, keepdims=True)
        return ((total + 1) // 3).astype(np.uint8)
    if mode == "RGBA":
        assert alpha is not None
        return np.concatenate([rgb, alpha[:, :, None]], axis=2)
    return rgb


def as_rgb(pixels: Pixels) -> Pixels:
    """(H, W, 3): gray repeated, alpha dropped."""
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[:, :, :3]
