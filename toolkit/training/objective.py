"""Rate-distortion objective over a range of lambdas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import msgspec
import torch
from torch import Tensor, nn

from toolkit.packages import require
from toolkit.training.recipe import Objective

LN2 = math.log(2)


class TrainingPass(NamedTuple):
    """What a trainable entropy model returns for a batch."""

    x_hat: Tensor
    """Reconstruction (B, 3, H, W), pixels in [0, 1], not clipped."""
    bits: dict[str, Tensor]
    """Bits of each part of the code, (B,) each: KL for coded samples, -log2 p for symbols."""


class TrainableModel(Protocol):
    """An entropy model that ``toolkit train`` can train: an ``nn.Module`` with this method."""

    def training_pass(self, x: Tensor, rate: Tensor) -> TrainingPass:
        """Images (B, 3, H, W) in [0, 1] at the rates (B,) in [0, 1], through the model."""
        ...


@runtime_checkable
class SortsChannels(Protocol):
    """A model that sorts its latent channels before its weights are exported."""

    def sort_channels(self, x: Tensor) -> None:
        """Sort, by what images (B, 3, H, W) in [0, 1] show, without changing what is computed."""
        ...


@runtime_checkable
class AddsChannels(Protocol):
    """A model that can begin with the weights of one that has fewer latent channels."""

    def add_channels(
        self, images: Sequence[Tensor], known: int, opens: float, objective: Objective
    ) -> None:
        """Put latent channels from ``known`` on to use, on images (B, 3, H, W), from the rate
        ``opens`` on (see ``Start.opens``)."""
        ...


class Loss(NamedTuple):
    """Loss of a batch and the figures that a log wants."""

    value: Tensor
    bpp: float
    psnr: float


def distortion(x: Tensor, x_hat: Tensor, kind: str) -> Tensor:
    """D of each image, (B,), in the units that ``Objective`` names."""
    if kind == "mse":
        return 255.0**2 * (x - x_hat).square().mean((1, 2, 3))
    if kind == "mae":
        return 3 * (x - x_hat).abs().mean((1, 2, 3))
    from pytorch_msssim import ms_ssim

    # five scales of an 11-pixel window need 161 pixels; smaller crops get a smaller window
    window = 11 if min(x.shape[-2:]) > 160 else 7 if min(x.shape[-2:]) > 96 else 3
    return 1 - ms_ssim(x, x_hat, data_range=1.0, size_average=False, win_size=window)


class RateDistortion(nn.Module):
    """The loss of a recipe; holds the logarithm of the Laplace scale gamma, if it has one."""

    def __init__(self, options: Objective) -> None:
        super().__init__()
        if options.distortion == "ms-ssim":
            require("distortion ms-ssim", "pytorch_msssim")
        self.options = options
        log_gamma = torch.tensor(math.log(options.laplace_scale or 1.0))
        self.log_gamma = nn.Parameter(log_gamma, requires_grad=options.learned_scale)

    def learned(self) -> Objective:
        """The options, with what has been learned in its place."""
        if not self.options.learned_scale:
            return self.options
        scale = float(self.log_scale().detach().exp())
        return msgspec.structs.replace(self.options, laplace_scale=scale)

    def log_scale(self) -> Tensor:
        """Natural logarithm of the Laplace scale in use, ``max(gamma, gamma_inf)``."""
        least = self.options.least_scale
        return self.log_gamma if least is None else self.log_gamma.clamp_min(math.log(least))

    def distortion(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """D of each image, (B,): see ``Objective``."""
        d = distortion(x, x_hat, self.options.distortion)
        if self.options.laplace_scale is None:
            return d
        log_scale = self.log_scale()
        likelihood = d * torch.exp(-log_scale) / LN2
        return likelihood + 3 * (1 + log_scale / LN2) if self.options.normaliser else likelihood

    def lambdas(self, rate: Tensor) -> Tensor:
        """lambda of each rate in [0, 1]: geometric from lambda_min to lambda_max."""
        low, high = math.log(self.options.lambda_min), math.log(self.options.lambda_max)
        return torch.exp(low + (high - low) * rate)

    def forward(self, x: Tensor, rate: Tensor, result: TrainingPass, step: int) -> Loss:
        o = self.options
        pixels = x.shape[-2] * x.shape[-1]
        bpp = torch.stack(list(result.bits.values())).sum(0) / pixels
        d = self.distortion(x, result.x_hat)
        warm = min(1.0, step / o.kl_warmup) if o.kl_warmup else 1.0
        lambdas = self.lambdas(rate)
        value = ((lambdas * d + warm * bpp) / lambdas**o.balance).mean()
        if o.laplace_scale is not None and not o.normaliser:
            value = value * self.log_scale().exp()  # L' = D + gamma R of section 3.3.1
        mse = (x - result.x_hat).detach().square().mean((1, 2, 3))
        psnr = -10 * torch.log10(mse.clamp_min(1e-10)).mean()
        return Loss(value, float(bpp.detach().mean()), float(psnr))
