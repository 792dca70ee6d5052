"""The network that guesses the rates of a ladder's latent elements, as it is trained.

It learns, with the ladder as it is, what ``toolkit.sampling.rate_prediction`` then computes in
whole numbers: from plain samples of the levels above, by how many octaves the variance of each
prior exceeds that of the noise. Errors count by what an element takes: of what takes next to
nothing, nobody needs to know how little.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.entropy_model.base import LadderModel, Level, Size
from toolkit.sampling.rate_prediction import (
    BRIGHTEST,
    FARTHEST,
    HIGHEST,
    LOWEST,
    MAP_STEPS,
    SAMPLE_STEPS,
    STEPS,
)

LEAST = -6.0
"""Octaves: as little as is told apart, a hundredth of a bit."""
_MOST = 12.0
_KNOTS = 9
_LONGEST_SHIFT = 16
_FINEST = 2.0**-4
"""Octaves squared, a batch: what keeps biases at rates that few batches had near the others."""


class Batch(NamedTuple):
    """Samples of a ladder, and what they take."""

    rates: Tensor
    """(B,) in [0, 1]."""
    samples: list[Tensor]
    """Each level's, top first, in units of its prior, (B, C, h, w)."""
    bits: list[Tensor]
    """-log2 r of each element: what it takes on average, (B, C, h, w)."""


def sample_batch(model: LadderModel, x: Tensor, rates: Tensor) -> Batch:
    """A plain sample of every level of images (B, 3, H, W) in [0, 1] at rates (B,)."""
    samples: list[Tensor] = []
    bits: list[Tensor] = []

    def choose(index: int, level: Level) -> Tensor:
        assert level.posterior is not None
        d, log_r = (part.float() for part in level.posterior)
        samples.append(d + torch.randn_like(d) * log_r.exp())
        bits.append(-log_r / math.log(2))
        return samples[-1]

    with torch.no_grad():
        model.walk(Size(len(x), *x.shape[2:]), rates, model.analyse(x, rates), choose)
    return Batch(rates, samples, bits)


class RateNetwork(nn.Module):
    """The network in floating-point numbers, as it is trained.

    Arguments:
        channels: of every level, top first.
        width: channels of the map.
    """

    def __init__(self, channels: list[int], width: int) -> None:
        super().__init__()
        below = range(len(channels) - 1)
        self.nexts = nn.ModuleList(
            nn.Conv2d(channels[i] + (width if i else 0), width, 3, padding=1, bias=False)
            for i in below
        )
        self.heads = nn.ModuleList(nn.Conv2d(width, channels[i + 1], 1, bias=False) for i in below)
        self.map_biases = nn.ParameterList(nn.Parameter(torch.zeros(_KNOTS, width)) for _ in below)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(_KNOTS, n)) for n in channels)
        with torch.no_grad():
            for head in self.heads:
                cast(Tensor, head.weight).mul_(0.3)

    def forward(self, batch: Batch) -> list[Tensor]:
        """Octaves of all levels' elements, (B, C, h, w) each."""
        weights = _interpolation(batch.rates)
        first = (weights @ self.biases[0])[:, :, None, None]
        found = [first.expand_as(batch.samples[0])]
        known: list[Tensor] = []
        for i, (step, head) in enumerate(zip(self.nexts, self.heads, strict=True)):
            c = batch.samples[i].clamp(-FARTHEST / SAMPLE_STEPS, FARTHEST / SAMPLE_STEPS)
            added = (
                step(torch.cat([*known, c], 1)) + (weights @ self.map_biases[i])[..., None, None]
            )
            h = added.clamp(0, BRIGHTEST / MAP_STEPS)
            h = F.interpolate(h, batch.samples[i + 1].shape[2:], mode="nearest")
            known = [h]
            found.append(head(h) + (weights @ self.biases[i + 1])[..., None, None])
        return found

    def begin(self, batches: list[Batch]) -> None:
        """Biases as the mean octaves are at each rate."""
        rows = torch.cat([_interpolation(batch.rates) for batch in batches]).double()
        near = torch.cat(
            [rows, _FINEST * torch.diff(torch.eye(_KNOTS, dtype=torch.float64), dim=0)]
        )
        for i, bias in enumerate(self.biases):
            means = torch.cat([_octaves(batch.bits[i]).mean((2, 3)) for batch in batches]).double()
            wanted = torch.cat([means, means.new_zeros(_KNOTS - 1, means.shape[1])])
            with torch.no_grad():
                bias.copy_(torch.linalg.lstsq(near, wanted).solution)

    def loss(self, batch: Batch) -> Tensor:
        """Mean error, in octaves, of elements by what they take."""
        return mean_error(self(batch), batch.bits)

    def tensors(self) -> dict[str, Tensor]:
        """In whole numbers: what ``RatePredictor.from_tensors`` reads."""
        bias = self.biases[0].detach()
        empty = torch.zeros(1, bias.shape[1], 0)
        found = _layer("first", empty, bias, STEPS, 0)
        for i, (step, head) in enumerate(zip(self.nexts, self.heads, strict=True)):
            kernel = cast(Tensor, step.weight).detach().permute(2, 3, 0, 1).flatten(0, 1)
            found |= _layer(f"next{i}", kernel, self.map_biases[i].detach(), MAP_STEPS, 0)
            kernel = cast(Tensor, head.weight).detach()[None, :, :, 0, 0]
            less = (MAP_STEPS // STEPS).bit_length() - 1
            found |= _layer(f"head{i}", kernel, self.biases[i + 1].detach(), STEPS, less)
        return found


def mean_error(octaves: list[Tensor], bits: list[Tensor]) -> Tensor:
    """Of all elements by what they take: absolute, or half the square where it is below 1.

    Arguments:
        octaves: guesses for each level, (B, C, h, w).
        bits: -log2 r of them.
    """
    total, weight = torch.zeros(()), 0.0
    for found, taken in zip(octaves, bits, strict=True):
        by = taken.clamp(0, 1) + 0.02
        total = total + (by * F.smooth_l1_loss(found, _octaves(taken), reduction="none")).sum()
        weight += float(by.sum())
    return total / weight


def _interpolation(rates: Tensor) -> Tensor:
    """(B, knots): how much of each knot's bias counts at rates (B,)."""
    at = rates[:, None] * (_KNOTS - 1) - torch.arange(_KNOTS)
    return (1 - at.abs()).clamp_min(0)


def _octaves(bits: Tensor) -> Tensor:
    """Octaves of elements that take so many bits."""
    return torch.log2((4.0 ** bits.clamp(0, _MOST) - 1).clamp_min(2.0**LEAST))


def _layer(name: str, kernel: Tensor, bias: Tensor, steps: int, less: int) -> dict[str, Tensor]:
    """Kernel (places, outputs, inputs) and bias (knots, outputs) in whole numbers.

    Arguments:
        steps: what 1 is in the outputs.
        less: by how many places that is less than what 1 is in the inputs.
    """
    outputs = kernel.shape[1]
    largest = kernel.abs().amax((0, 2)) if kernel.numel() else torch.ones(outputs)
    finest = torch.floor(torch.log2(127 / largest.clamp_min(2.0**-30)))
    places = finest.clamp(0, _LONGEST_SHIFT)
    whole = torch.round(kernel * torch.exp2(places)[:, None]).clamp(-127, 127)
    shift = places + less
    rounded = (bias.double() * steps).clamp(LOWEST * 16, HIGHEST * 16) + 0.5
    return {
        f"{name}.kernel": whole.to(torch.int8).contiguous(),
        f"{name}.bias": torch.floor(rounded * torch.exp2(shift).double()).to(torch.int32),
        f"{name}.shift": shift.to(torch.int32),
    }
