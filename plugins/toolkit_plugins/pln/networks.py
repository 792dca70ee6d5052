"""Networks of the probabilistic ladder network (PLN).

Flamich, "Compression without Quantization" (2019), figure 3.2, in a rate-conditioned
form: one set of weights serves every rate.

::

    x --> Analysis1 --> (mu_x, log s_x) ------------------+
                          |                               |  product of Gaussians
                          mu_x --> Analysis2 --> q(z2|x)  |        |
                                                  |       v        v
                              z2 ~ q --> Synthesis2 --> p(z1|z2), q(z1|z2,x)
                                                                   |
                                                       z1 ~ q --> Synthesis1 --> x_hat

z1 has stride 16, z2 stride 32. Departures from the figure, each for speed and none of
them visible in the data flow: upsampling convolutions are 3x3 convolutions to four times
the channels and a pixel shuffle (a 6x6 kernel in sub-pixel form), and the width may grow
with the stride, where the figure has one width N.
"""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from toolkit_plugins.networks.layers import (
    LEAK,
    GaussianHeads,
    MirrorConv2d,
    RateGain,
    SubPixelConv2d,
)
from toolkit_plugins.networks.linear import LinearAnalysis
from toolkit_plugins.networks.stages import AnalysisStages


class Analysis1(AnalysisStages):
    """Image (B, 3, H, W), centred -> mean and log scale of the encoder's Gaussian, stride 16."""

    def __init__(self, widths: tuple[int, ...], channels: int, knots: int, linear: bool) -> None:
        super().__init__(widths, knots)
        self.linear = LinearAnalysis(channels) if linear else None
        # exp(-2.5): a posterior that starts sharp learns faster than one as wide as the prior
        self.heads = GaussianHeads(widths[-1], channels, knots, stride=2, log_scale=-2.5)

    def forward(self, x: Tensor, blend: Tensor) -> tuple[Tensor, Tensor]:
        more = self.linear(x) if self.linear is not None else 0.0
        return cast(tuple[Tensor, Tensor], self.heads(self.stages(x, blend), blend, more))


class Analysis2(nn.Module):
    """Encoder means of level 1 -> mean and logit of the scale of q(z2|x), stride 2."""

    def __init__(self, c_in: int, width: int, channels: int, knots: int) -> None:
        super().__init__()
        self.gain = RateGain(c_in, knots)
        self.conv1 = MirrorConv2d(c_in, width)
        self.conv2 = MirrorConv2d(width, width)
        self.heads = GaussianHeads(width, channels, knots, stride=2)

    def forward(self, mean: Tensor, blend: Tensor) -> tuple[Tensor, Tensor]:
        x = F.leaky_relu(self.conv1(self.gain(mean, blend)), LEAK)
        x = F.leaky_relu(self.conv2(x), LEAK)
        return cast(tuple[Tensor, Tensor], self.heads(x, blend))


class Synthesis2(nn.Module):
    """z2 -> mean and log scale of the prior p(z1|z2)."""

    def __init__(self, c_in: int, width: int, channels: int, knots: int) -> None:
        super().__init__()
        self.gain = RateGain(c_in, knots)
        self.up = SubPixelConv2d(c_in, width)
        self.conv = MirrorConv2d(width, width)
        self.heads = GaussianHeads(width, channels, knots)

    def forward(self, z2: Tensor, blend: Tensor) -> tuple[Tensor, Tensor]:
        x = F.leaky_relu(self.up(self.gain(z2, blend)), LEAK)
        x = F.leaky_relu(self.conv(x), LEAK)
        return cast(tuple[Tensor, Tensor], self.heads(x, blend))
