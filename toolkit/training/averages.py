"""Exponential moving average of a model's weights; what is validated and exported."""

from __future__ import annotations

import torch
from torch import nn

from toolkit.training.recipe import Ema


def update_average(average: nn.Module, parts: nn.Module, options: Ema, step: int) -> None:
    """Move ``average``, a copy of ``parts``, towards it in place, if it is time at ``step``."""
    if step % options.every:
        return
    # a short memory at first, so that the average forgets the initial weights
    decay = min(options.decay, 1 - 1 / (1 + step / options.every))
    with torch.no_grad():
        for mean, value in zip(average.parameters(), parts.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
