"""Blocks of the deep ladder."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.entropy_model.base import Gaussian
from toolkit_plugins.networks.layers import LEAK, MirrorConv2d, RateGain


class Residual(nn.Module):
    """``h + conv(leaky(gain conv(h)))``, 3x3, begun near the identity."""

    def __init__(self, width: int, hidden: int, knots: int) -> None:
        super().__init__()
        self.inner = MirrorConv2d(width, hidden, 3)
        self.gain = RateGain(hidden, knots)
        self.outer = MirrorConv2d(hidden, width, 3)
        with torch.no_grad():
            self.outer.weight.mul_(0.1)

    def forward(self, h: Tensor, blend: Tensor) -> Tensor:
        return h + cast(Tensor, self.outer(F.leaky_relu(self.gain(self.inner(h), blend), LEAK)))


class Linear(MirrorConv2d):
    """1x1, its first rows and columns given, the rest random and ``small``."""

    def __init__(self, c_in: int, c_out: int, first: Tensor, small: float = 0.1) -> None:
        super().__init__(c_in, c_out, 1)
        with torch.no_grad():
            self.weight.mul_(small)
            self.weight[: first.shape[0], : first.shape[1], 0, 0] = first.float()


class Heads(nn.Module):
    """Means and log scales (natural), 3x3, conditioned on the rate; begun near N(0, 1)."""

    def __init__(self, width: int, channels: int, knots: int) -> None:
        super().__init__()
        self.mean = MirrorConv2d(width, channels, 3)
        self.log_scale = MirrorConv2d(width, channels, 3)
        self.mean_gain = RateGain(channels, knots)
        self.scale_gain = RateGain(channels, knots)
        with torch.no_grad():
            self.mean.weight.mul_(0.1)
            self.log_scale.weight.mul_(0.1)

    def forward(self, x: Tensor, blend: Tensor, more: Tensor | float = 0.0) -> Gaussian:
        """``more`` is added to the means before their gain."""
        mean = self.mean_gain((self.mean(x) + more).float(), blend)
        return Gaussian(mean, self.log_scale(x).float() + self.scale_gain.log(blend))


class LatentBlock(nn.Module):
    """One level: prior from h, encoder's Gaussian from h and the encoder's map e, and what a
    sample adds to h.

    It begins as the coding of some coefficients, channels ``which`` of e, as innovations: what e
    has and h lacks, with a posterior as narrow as is worth its bits at every rate. ``scales``:
    natural logs of what that is at rates 0 and 1 for coefficients of deviation 1; ``sigma``: the
    deviations that the channels, whose own is 1, stand for.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        which: Tensor,
        sigma: Tensor,
        scales: tuple[float, float],
        knots: int,
    ) -> None:
        super().__init__()
        n = len(which)
        read = torch.zeros(n, width, dtype=torch.float64)
        read[torch.arange(n), which] = 1
        self.prior = Heads(width, n, knots)
        self.merge = MirrorConv2d(2 * width, width, 1)
        self.skip = Linear(2 * width, n, torch.cat([read, -read], 1), 0.0)
        self.encoder = Heads(width, n, knots)
        self.gain = RateGain(n, knots)
        self.out = Linear(n, width, read.T)
        self.res = Residual(width, hidden, knots)
        with torch.no_grad():
            slope = torch.linspace(*scales, knots)[:, None]
            self.encoder.scale_gain.log_gain.copy_(slope - torch.log(sigma.float())[None])

    def prior_of(self, h: Tensor, blend: Tensor) -> Gaussian:
        """p(z | levels above)."""
        mean, log_scale = self.prior(h, blend)
        return Gaussian(mean, log_scale.clamp(-10.0, 10.0))

    def encoder_of(self, h: Tensor, e: Tensor, blend: Tensor) -> Gaussian:
        """What the encoder says of z, to be multiplied with the prior."""
        both = torch.cat([e, h], 1)
        merged = F.leaky_relu(self.merge(both), LEAK)
        mean, log_scale = self.encoder(merged, blend, self.skip(both))
        return Gaussian(mean, log_scale.clamp(-12.0, 6.0))

    def add(self, h: Tensor, z: Tensor, blend: Tensor) -> Tensor:
        """h with what z tells."""
        return cast(Tensor, self.res(h + self.out(self.gain(z, blend)), blend))
