"""Synthetic levels of latents that resemble those of a trained ladder.

For tests and timings without weights: per-channel rates fall geometrically, as the posterior
of a trained network's do, and each channel's rate varies smoothly over the image.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from toolkit.sampling.contract import Array


def synthetic_level(
    shape: tuple[int, int, int] = (128, 48, 32),
    top: float = 5.0,
    bottom: float = 0.002,
    variation: float = 0.6,
    seed: int = 0,
) -> tuple[Array, Array]:
    """Targets (d, r), both float32 of ``shape`` (C, H, W), prior N(0, 1).

    Channel k of C has a mean rate of about ``top (bottom / top)^(k / (C - 1))`` bits a dim;
    over the image it varies log-normally with standard deviation ``variation`` (natural
    logarithm), in part alike in all channels, as busy and flat areas make it. The prior is
    calibrated: over the level d^2 + r^2 averages 1, so that the KL is that of ``-log2 r``.
    """
    generator = np.random.default_rng(seed)
    channels, height, width = shape
    rates = np.geomspace(top, bottom, channels) if channels > 1 else np.array([top])
    rates = generator.permutation(rates)
    noise = generator.standard_normal((channels + 1, height, width))
    smooth = np.stack([gaussian_filter(plane, 1.5, mode="wrap") for plane in noise])
    smooth /= smooth.std() or 1.0
    field = (smooth[:1] + smooth[1:]) / np.sqrt(2)
    local = rates[:, None, None] * np.exp(variation * field - 0.5 * variation**2)
    r = np.exp2(-np.minimum(local, 7.0))
    d = generator.standard_normal(shape) * np.sqrt(1 - r * r)
    return d.astype(np.float32), r.astype(np.float32)
