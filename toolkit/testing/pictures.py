"""Pictures for the conformance kit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> Pixels:
    """Smooth colours, an edge and some noise: uint8 (height, width, channels)."""
    random = np.random.default_rng([seed, height, width, channels])
    y, x = np.mgrid[:height, :width] / 24
    waves = [np.sin(x * a + y * b + c) for a, b, c in random.normal(0, 1, (channels, 3))]
    edge = 40 * ((x + y) % 1.5 > 0.75)[:, :, None]
    noise = random.normal(0, 6, (height, width, channels))
    return np.clip(110 + 70 * np.stack(waves, 2) + edge + noise, 0, 255).astype(np.uint8)
