"""Pictures of any size and mode on their way to and from networks that want neither."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toolkit.codec.base import Pixels


def padded(side: int, multiple: int, least: int = 1) -> int:
    """The least multiple that holds ``side`` and is at least ``least``."""
    return -(-max(side, least) // multiple) * multiple


def extended(rgb: Pixels, multiple: int, least: int = 1) -> Pixels:
    """uint8 (H, W, 3) -> uint8 (1, 3, H', W'), H' and W' as ``padded`` says.

    The last row and column are repeated: a flat margin costs fewer bits than a black one.
    """
    height, width = rgb.shape[:2]
    below = padded(height, multiple, least) - height
    right = padded(width, multiple, least) - width
    return np.pad(rgb, ((0, below), (0, right), (0, 0)), mode="edge").transpose(2, 0, 1)[None]


def to_floats(pixels: Pixels) -> NDArray[np.float32]:
    """uint8 -> float32 in [0, 1]."""
    return np.ascontiguousarray(pixels, np.float32) / np.float32(255)


def to_network(rgb: Pixels, multiple: int, least: int = 1) -> NDArray[np.float32]:
    """uint8 (H, W, 3) -> float32 (1, 3, H', W') in [0, 1], as ``extended``."""
    return to_floats(extended(rgb, multiple, least))


def from_network(image: NDArray[np.float32], height: int, width: int) -> Pixels:
    """float (1, 3, H', W') -> uint8 (height, width, 3), clipped and rounded.

    Raises ValueError for values that aren't finite: what a network makes of damaged latents
    is no picture.
    """
    if not np.isfinite(image).all():
        raise ValueError("the network's output isn't finite")
    visible = image[0, :, :height, :width].transpose(1, 2, 0)
    return np.rint(np.clip(visible, 0, 1) * 255).astype(np.uint8)


def synthesise(network: Any, latent: Any, precision: str, threads: int) -> Any:
    """The image, float32 (1, 3, H', W'), that a network makes of a latent tensor."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            if precision == "float64":
                network, latent = copy.deepcopy(network).double(), latent.double()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                return network(latent).float().numpy()
    finally:
        torch.set_num_threads(before)
