"""Layers that networks conditioned on a rate are made of: the PLN's, and those of the hyperprior
beside it."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Pixels in [0, 1] enter and leave the networks centred and scaled to about unit variance.
CENTRE, SPREAD = 0.5, 4.0
LEAK = 0.2
"""Slope of leaky rectifiers below 0."""


class MirrorConv2d(nn.Conv2d):
    """Convolution of odd kernel size k, "same" size over the stride, mirror padding.

    Input (B, C_in, H, W), output (B, C_out, ceil(H / stride), ceil(W / stride)).
    H and W must exceed (k - 1) / 2, since a mirror can't show more than there is.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int = 5, stride: int = 1) -> None:
        super().__init__(c_in, c_out, kernel, stride, kernel // 2, padding_mode="reflect")

    def reset_parameters(self) -> None:
        fan_in = self.in_channels * self.kernel_size[0] * self.kernel_size[1]
        nn.init.normal_(self.weight, std=1 / math.sqrt(fan_in))
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class SubPixelConv2d(nn.Module):
    """Upsampling by 2: a 3x3 convolution to 4 C_out channels, then a pixel shuffle."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = MirrorConv2d(c_in, 4 * c_out, kernel=3)
        # four interleaved kernels, one an output phase: the optimiser treats them apart
        self.conv.weight.interleaved = 4  # type: ignore[attr-defined]

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)

    def mirrored(self, x: Tensor) -> Tensor:
        """As ``forward``, of (B, C_in, H + 2, W + 2), which has its mirrored border already."""
        return F.pixel_shuffle(F.conv2d(x, self.conv.weight, self.conv.bias), 2)

    def phases(self, x: Tensor) -> Tensor:
        """As ``mirrored``, before the shuffle: (B, 4 C_out, H, W), the four output phases (row,
        column) one after another, each with all its channels."""
        parameters = (self.conv.weight, cast(Tensor, self.conv.bias))
        weight, bias = (
            p.view(-1, 4, *p.shape[1:]).transpose(0, 1).flatten(0, 1) for p in parameters
        )
        return F.conv2d(x, weight.contiguous(memory_format=torch.channels_last), bias)


class Normalization(nn.Module):
    """What generalized divisive normalization learns (Balle et al. 2016, "Density modeling of
    images"). Square roots of beta and gamma are stored, so that both stay non-negative."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.root_beta = nn.Parameter(torch.ones(channels))
        root_gamma = torch.full((channels, channels), 0.01)
        root_gamma.fill_diagonal_(math.sqrt(0.1))
        self.root_gamma = nn.Parameter(root_gamma)

    @property
    def gamma(self) -> Tensor:
        """(C, C)"""
        return self.root_gamma**2

    @property
    def beta(self) -> Tensor:
        """(C,)"""
        return self.root_beta**2 + 1e-6


class GDN(Normalization):
    """Generalized divisive normalization: ``y_i = x_i / sqrt(beta_i + sum_j gamma_ij x_j^2)``.

    The same function as ``compressai.layers.GDN`` (a test holds the two together), written as
    one matrix product over channels-last memory, several times faster in bfloat16 on CPU, and
    without CompressAI's import, which takes longer than coding a picture.
    """

    def forward(self, x: Tensor) -> Tensor:
        last = x.permute(0, 2, 3, 1)
        norm = F.linear(last * last, self.gamma, self.beta).to(x.dtype)
        return (last * norm.rsqrt()).permute(0, 3, 1, 2)


class InverseGDN(Normalization):
    """The inverse, ``y_i = x_i sqrt(beta_i + sum_j gamma_ij x_j^2)``, within an upsampling stage:
    times a gain, shuffled and mirrored for the next convolution.

    What is elementwise in a stage is bound by memory, and took as long as a third of its
    convolution. Here it's done in place where that goes, before the shuffle, where the phases are
    rows of one matrix, and written straight into the mirrored picture, which matters to the
    encoder's gradient steps.
    """

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        """Phases (B, 4 C, H, W) as of ``SubPixelConv2d.phases``, gain (B, C) -> (B, C, 2 H + 2,
        2 W + 2)."""
        parameters = (p.to(x.dtype) for p in (self.gamma, self.beta, gain))
        y: Tensor = _InverseGDN.apply(x, *parameters)  # type: ignore[no-untyped-call]
        return y


class _InverseGDN(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, gain: Tensor) -> Tensor:
        batch, height, width, channels = len(x), *x.shape[2:], len(beta)
        shape = (batch, height, width, 2, 2, channels)
        rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
        root = torch.addmm(beta, rows * rows, gamma.T).sqrt_()
        root.view(batch, -1, channels).mul_(gain[:, None])
        y = torch.empty(
            (batch, channels, 2 * height + 2, 2 * width + 2),
            dtype=x.dtype,
            device=x.device,
            memory_format=torch.channels_last,
        )
        torch.mul(rows.view(shape), root.view(shape), out=_by_phase(y[:, :, 1:-1, 1:-1]))
        for inside, border in MIRRORED:
            y[:, :, border] = y[:, :, inside]
        for inside, border in MIRRORED:
            y[:, :, :, border] = y[:, :, :, inside]
        ctx.save_for_backward(rows, root, gamma, gain)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, by_y: Tensor) -> tuple[Tensor | None, ...]:
        rows, root, gamma, gain = ctx.saved_tensors
        by_y = by_y.clone(memory_format=torch.channels_last)
        for inside, border in MIRRORED:
            by_y[:, :, :, inside] += by_y[:, :, :, border]
        for inside, border in MIRRORED:
            by_y[:, :, inside] += by_y[:, :, border]
        phases = _by_phase(by_y[:, :, 1:-1, 1:-1])
        batch, channels = gain.shape
        x, shape = rows.view(phases.shape), (batch, -1, channels)
        product = torch.mul(phases, x, out=torch.empty_like(x))
        by_gain = None
        if ctx.needs_input_grad[3]:
            by_gain = (product * root.view_as(x)).view(shape).sum(1) / gain
        by_norm = product.div_(root.view_as(x)).view(-1, channels)  # twice, and over gain^2
        by_norm.view(shape).mul_((gain * gain)[:, None])
        by_gamma = 0.5 * (by_norm.T @ (rows * rows)) if ctx.needs_input_grad[1] else None
        by_beta = 0.5 * by_norm.sum(0) if ctx.needs_input_grad[2] else None
        by_x = (by_norm @ gamma).mul_(rows).view_as(x).addcmul_(phases, root.view_as(x))
        return by_x.flatten(3).permute(0, 3, 1, 2), by_gamma, by_beta, by_gain


MIRRORED = ((2, 0), (-3, -1))
"""Lines that a mirrored border of 1 shows, and where."""


def _by_phase(image: Tensor) -> Tensor:
    """(B, C, 2 H, 2 W), a view as (B, H, W, 2, 2, C)."""
    batch, channels, height, width = image.shape
    last = image.permute(0, 2, 3, 1)
    return last.view(batch, height // 2, 2, width // 2, 2, channels).transpose(2, 3)


class RateGain(nn.Module):
    """Per-channel gain that depends on the rate: log-gains at ``knots`` rates, interpolated."""

    def __init__(self, channels: int, knots: int) -> None:
        super().__init__()
        self.log_gain = nn.Parameter(torch.zeros(knots, channels))

    def log(self, blend: Tensor) -> Tensor:
        """Log-gains, (B, C, 1, 1), for the interpolation weights ``blend`` (B, knots).

        Not a matrix product, which autocast would take in bfloat16: the log-gain of a channel that
        is nearly shut would be off by percents of the gain.
        """
        return (blend[:, :, None] * self.log_gain).sum(1)[:, :, None, None]

    def forward(self, x: Tensor, blend: Tensor) -> Tensor:
        return x * self.log(blend).exp().to(x.dtype)


def interpolation_weights(rate: Tensor, knots: int) -> Tensor:
    """Linear interpolation weights (B, knots) of ``rate`` (B,) in [0, 1] between equal knots."""
    position = rate.clamp(0, 1) * (knots - 1)
    index = torch.arange(knots, device=rate.device, dtype=rate.dtype)
    return (1 - (position[:, None] - index).abs()).clamp_min(0)


class GaussianHeads(nn.Module):
    """Two convolutions: the means, and the log scales (natural), of one Gaussian a latent.

    The means get a rate gain, the log scales a rate offset; both float32 from here on.
    """

    def __init__(
        self, c_in: int, channels: int, knots: int, *, stride: int = 1, log_scale: float = 0.0
    ) -> None:
        super().__init__()
        self.mean = MirrorConv2d(c_in, channels, stride=stride)
        self.log_scale = MirrorConv2d(c_in, channels, stride=stride)
        self.mean_gain = RateGain(channels, knots)
        self.scale_gain = RateGain(channels, knots)
        with torch.no_grad():
            self.log_scale.weight.mul_(0.1)
            assert self.log_scale.bias is not None
            self.log_scale.bias.fill_(log_scale)

    def forward(
        self, x: Tensor, blend: Tensor, more: Tensor | float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """``more`` is added to the means before their gain."""
        mean = self.mean_gain((self.mean(x) + more).float(), blend)
        return mean, self.log_scale(x).float() + self.scale_gain.log(blend)

    def clear(self, known: int) -> None:
        """Channels from ``known`` on: mean 0, log scale 0, but for their gains."""
        with torch.no_grad():
            for conv in (self.mean, self.log_scale):
                assert conv.bias is not None
                conv.weight[known:] = 0
                conv.bias[known:] = 0

    def reorder(self, order: Tensor) -> None:
        """Give the latents' channels out in another order."""
        for conv in (self.mean, self.log_scale):
            reorder(conv.weight, 0, order)
            assert conv.bias is not None
            reorder(conv.bias, 0, order)
        for gain in (self.mean_gain, self.scale_gain):
            reorder(gain.log_gain, 1, order)


def reorder(parameter: Tensor, axis: int, order: Tensor) -> None:
    """In place: entry i along the axis becomes what was entry ``order[i]``."""
    with torch.no_grad():
        parameter.copy_(parameter.index_select(axis, order))
