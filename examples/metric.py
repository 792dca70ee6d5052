"""A metric: PSNR of the steps between neighbours, which sees blur and blocks.

toolkit eval --plugin examples/metric.py --metric step-psnr --codec jpeg photos
"""

import math

import numpy as np

from toolkit.plugin import MetricSpec, hookimpl


@hookimpl
def toolkit_metrics():
    yield MetricSpec(
        "step-psnr", "PSNR of the steps between neighbours", f"{__name__}:step_psnr", unit="dB"
    )


def step_psnr(original, decoded):
    """In dB over both directions and all channels of two uint8 pictures (H, W, C): infinite for
    equal pictures, NaN for a single pixel, which has no neighbour."""
    error = original.astype(float) - decoded
    squares = [np.square(np.diff(error, axis=axis)).ravel() for axis in (0, 1)]
    squares = np.concatenate(squares)
    if squares.size == 0:
        return math.nan
    return 10 * math.log10(255**2 / squares.mean()) if squares.any() else math.inf
