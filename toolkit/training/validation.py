"""Held-out images: rate and quality as the training pass sees them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.training.data import load_rgb
from toolkit.training.device import autocast
from toolkit.training.objective import TrainableModel
from toolkit.training.recipe import Objective

CROP = 256
RATES = (0.0, 0.25, 0.5, 0.75, 1.0)


class Validation:
    """Figures of a model on the centres of the held-out images ``files``."""

    def __init__(
        self, files: list[Path], objective: Objective, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.files, self.device, self.dtype = files, device, dtype
        # a model of one lambda has one point
        self.rates = RATES if objective.lambda_min < objective.lambda_max else (0.5,)

    def image(self, path: Path) -> Tensor:
        """The centre of an image, (1, 3, H, W) in [0, 1]."""
        image = load_rgb(path, CROP)
        y, x = ((side - CROP) // 2 for side in image.shape[:2])
        piece = torch.from_numpy(image[y : y + CROP, x : x + CROP].copy())
        tensor = piece.permute(2, 0, 1)[None].to(self.device).float().div(255)
        return tensor.contiguous(memory_format=torch.channels_last)

    def images(self) -> Tensor:
        """The centres of all, (N, 3, H, W)."""
        return torch.cat([self.image(path) for path in self.files])

    def run(self, model: TrainableModel) -> list[dict[str, Any]]:
        """Mean bits per pixel, PSNR and the last part's bits per pixel, at every rate."""
        totals = {rate: [0.0, 0.0, 0.0] for rate in self.rates}
        torch.manual_seed(0)
        with torch.no_grad():
            for path in self.files:
                x = self.image(path)
                for rate, total in totals.items():
                    figures = self._figures(model, x, rate)
                    total[:] = (
                        a + b / len(self.files) for a, b in zip(total, figures, strict=True)
                    )
        names = ("bpp", "psnr", "last_level_bpp")
        return [
            {"rate": rate, **dict(zip(names, total, strict=True))}
            for rate, total in (totals.items() if self.files else ())
        ]

    def _figures(self, model: TrainableModel, x: Tensor, rate: float) -> tuple[float, ...]:
        with autocast(self.device, self.dtype):
            result = model.training_pass(x, torch.tensor([rate]).to(self.device))
        bits = [float(b.sum()) for b in result.bits.values()]
        mse = float((x - result.x_hat.clamp(0, 1)).square().mean())
        return sum(bits) / CROP**2, -10 * math.log10(mse), bits[-1] / CROP**2
