"""From the image inwards, and back: stages of convolutions and GDN, conditioned on the rate."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from toolkit_plugins.networks.layers import (
    GDN,
    InverseGDN,
    MirrorConv2d,
    RateGain,
    SubPixelConv2d,
    reorder,
)
from toolkit_plugins.networks.linear import LinearSynthesis


class AnalysisStages(nn.Module):
    """Image (B, 3, H, W), centred -> features (B, widths[-1], H / 8, W / 8)."""

    def __init__(self, widths: tuple[int, ...], knots: int) -> None:
        super().__init__()
        inputs = (3, *widths[:-1])
        self.convs = nn.ModuleList(
            MirrorConv2d(a, b, stride=2) for a, b in zip(inputs, widths, strict=True)
        )
        self.norms = nn.ModuleList(GDN(w) for w in widths)
        self.gains = nn.ModuleList(RateGain(w, knots) for w in widths)

    def stages(self, x: Tensor, blend: Tensor) -> Tensor:
        for conv, norm, gain in zip(self.convs, self.norms, self.gains, strict=True):
            x = gain(norm(conv(x)), blend)
        return x


class Synthesis1(nn.Module):
    """z1 -> centred image (B, 3, 16 h, 16 w)."""

    def __init__(self, c_in: int, widths: tuple[int, ...], knots: int, linear: bool) -> None:
        super().__init__()
        self.linear = LinearSynthesis(c_in, knots) if linear else None
        outputs = widths[::-1]
        inputs = (c_in, *outputs[:-1])
        self.gain = RateGain(c_in, knots)
        self.ups = nn.ModuleList(SubPixelConv2d(a, b) for a, b in zip(inputs, outputs, strict=True))
        self.norms = nn.ModuleList(InverseGDN(w) for w in outputs)
        self.gains = nn.ModuleList(RateGain(w, knots) for w in outputs)
        self.last = SubPixelConv2d(outputs[-1], 3)

    def forward(self, z1: Tensor, blend: Tensor) -> Tensor:
        latents = self.gain(z1, blend)
        x = F.pad(latents, (1, 1, 1, 1), mode="reflect")
        for up, norm, gain in zip(self.ups, self.norms, self.gains, strict=True):
            gains = cast(RateGain, gain).log(blend).exp().flatten(1)
            x = norm(cast(SubPixelConv2d, up).phases(x), gains)
        image = self.last.mirrored(x)
        return image if self.linear is None else image + self.linear(latents, blend)

    def reorder(self, order: Tensor) -> None:
        """Take the latents' channels in another order."""
        reorder(self.gain.log_gain, 1, order)
        reorder(cast(SubPixelConv2d, self.ups[0]).conv.weight, 1, order)
        if self.linear is not None:
            reorder(self.linear.conv.weight, 1, order)
            reorder(self.linear.gain.log_gain, 1, order)
