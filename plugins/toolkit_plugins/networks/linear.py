"""Linear paths beside the networks, which carry the fine detail of high rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.training.objective import RateDistortion
from toolkit.training.recipe import Objective
from toolkit_plugins.networks.layers import CENTRE, SPREAD, RateGain

BLOCK = 16
"""Pixels a side of one latent of level 1."""
SHUTTING = 40.0
"""Log scale a unit of rate, by which a channel shuts below the rate where it opens."""


class LinearAnalysis(nn.Conv2d):
    """Image (B, 3, H, W) -> (B, C, H / 16, W / 16), each block of 16x16 pixels by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__(3 * BLOCK**2, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pixel_unshuffle(x, BLOCK))


class LinearSynthesis(nn.Module):
    """Latents (B, C, h, w) -> image (B, 3, 16 h, 16 w), block by block."""

    def __init__(self, channels: int, knots: int) -> None:
        super().__init__()
        self.gain = RateGain(channels, knots)
        self.conv = nn.Conv2d(channels, 3 * BLOCK**2, 1, bias=False)

    def forward(self, latents: Tensor, blend: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(self.gain(latents, blend)), BLOCK)

    def open_with(self, shut: Tensor) -> None:
        """Open the paths of channels that have none yet as others open (``closing``), on average:
        old channels by themselves err about what new ones show."""
        idle = (self.conv.weight == 0).flatten(2).all(2).all(0)
        with torch.no_grad():
            self.gain.log_gain[:, idle] = -shut.mean(1, keepdim=True)


def fit_linear_paths(
    analysis: LinearAnalysis,
    means: nn.Conv2d,
    synthesis: LinearSynthesis,
    gains: Tensor,
    parts: Iterable[tuple[Tensor, Tensor, Tensor]],
) -> Tensor:
    """Give the last channels to what the first ones leave out.

    ``parts`` are batches (x, residual, latents): images and what is missing of them, (B, 3, H, W),
    and the first K channels, (B, K, H / 16, W / 16), as ``means`` and ``analysis`` make them; the
    synthesis gets them times ``gains``, (K,). The others are made innovations: principal components
    of the residual, applied to the image, less their least-squares estimate from the first
    channels, with variance 1. To the synthesis is added the least-squares estimate of the residual
    from all channels; its own gains are the caller's. So there is a path that works before training
    has begun: channels that start at zero, on networks that have long learned to do without them,
    are emptied by the rate before anything uses them.

    Returns the logarithms of the new channels' weights in the image: of the root of the squared
    change of all its values that a unit of the channel makes, (C - K,).
    """
    with torch.no_grad():
        x, residual, latents = (torch.cat(part) for part in zip(*parts, strict=True))
        channels, known = analysis.out_channels, latents.shape[1]
        pixels, target = (
            F.pixel_unshuffle(t, BLOCK).permute(0, 2, 3, 1).flatten(0, 2).double()
            for t in (x, residual)
        )
        old = latents.permute(0, 2, 3, 1).flatten(0, 2).double()
        _, axes = torch.linalg.eigh(target.T @ target)
        axes = axes.flip(1)[:, : channels - known]
        seen = least_squares(old, pixels @ axes)
        new = pixels @ axes - old @ seen
        deviation = new.std(0).clamp_min(1e-9)
        axes, seen, new = axes / deviation, seen / deviation, new / deviation
        analysis.weight[known:, :, 0, 0] = axes.T.to(analysis.weight)
        analysis.weight[known:, :, 0, 0] -= (
            seen.T.to(analysis.weight) @ analysis.weight[:known, :, 0, 0]
        )
        kernels = means.weight[:known].flatten(1)
        means.weight[known:] = -(seen.T.to(kernels) @ kernels).unflatten(1, means.weight.shape[1:])
        assert means.bias is not None
        means.bias[known:] = -(seen.T.to(kernels) @ means.bias[:known])
        estimate = least_squares(torch.cat([old * gains.double(), new], 1), target)
        synthesis.conv.weight[:, :, 0, 0] += estimate.T.to(synthesis.conv.weight)
        return estimate[known:].norm(dim=1).log().to(x)


def left_out(
    images: Iterable[Tensor],
    latents_of: Callable[[Tensor, Tensor], Tensor],
    image_of: Callable[[Tensor, Tensor], Tensor],
    log_gain: Tensor,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """What ``fit_linear_paths`` wants to know of images (B, 3, H, W) in [0, 1], coded at rate 1:
    them and what the reconstruction lacks, centred, and the first K latents without their
    ``log_gain``, (K,)."""
    for x in images:
        rate = torch.ones(len(x), device=x.device)
        latents = latents_of(x, rate)
        missing = SPREAD * (x - image_of(latents, rate))
        known = latents[:, : len(log_gain)] * torch.exp(-log_gain)[:, None, None]
        yield (x - CENTRE) * SPREAD, missing, known


def log_worth(objective: Objective, knots: int) -> Tensor:
    """Logarithm of 1 / (s^2 w^2), (knots,) from rate 0 to 1, for the best posterior scale s of a
    latent that weighs w in the centred image: where ``lambda 255^2 MSE + bits`` has its minimum,
    1 / (s ln 2) = 2 lambda 255^2 s w^2 / (3 SPREAD^2). Lambdas of another distortion say nothing of
    MSE: then those that an ``Objective`` has by default stand in."""
    mse = objective if objective.distortion == "mse" else Objective()
    lambdas = RateDistortion(mse).lambdas(torch.linspace(0, 1, knots))
    return torch.log(lambdas * (2 * math.log(2) * 255**2 / (3 * SPREAD**2)))


def least_squares(known: Tensor, wanted: Tensor) -> Tensor:
    """X of ``known X = wanted``, regularised; (N, A) and (N, B) -> (A, B)."""
    gram = known.T @ known
    gram += 1e-4 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    return torch.linalg.solve(gram, known.T @ wanted)


def closing(knots: int, channels: int, opens: float) -> Tensor:
    """How far each channel is from use at each rate, (knots, channels): 0 from the rate on where
    it opens, above 0 below, 8 where it is shut. The first opens at ``opens``, the last midway
    between there and 1."""
    rates = torch.linspace(0, 1, knots)[:, None]
    return (SHUTTING * (torch.linspace(opens, (1 + opens) / 2, channels) - rates)).clamp(0, 8)
