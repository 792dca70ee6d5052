"""A hyperprior trained by us: mbt2018-mean's structure, conditioned on the rate.

Minnen, Balle and Toderici 2018 (arXiv:1809.02736) without context model, built of the blocks of
the PLN, so that what is compared is quantization against coded samples and nothing else:

::

    x --> analysis --gain--> y ----------------------- Q --> y_hat --1/gain--> synthesis --> x_hat
                  |                                    |
                  y (before its gain)          N(mean, scale^2)
                  |                                    |
                  hyper-analysis --> z --> Q --> hyper-synthesis

y has stride 16, z stride 64. A step of the quantizer is 1; the gains, learned at a few rates and
interpolated between them, say how fine that is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from toolkit.options import Options
from toolkit.training.objective import TrainingPass
from toolkit.training.recipe import Objective
from toolkit_plugins.compressai.upstream import submodule
from toolkit_plugins.networks.layers import (
    CENTRE,
    LEAK,
    SPREAD,
    GaussianHeads,
    MirrorConv2d,
    RateGain,
    SubPixelConv2d,
    interpolation_weights,
    reorder,
)
from toolkit_plugins.networks.linear import (
    LinearAnalysis,
    closing,
    fit_linear_paths,
    left_out,
    log_worth,
)
from toolkit_plugins.networks.stages import AnalysisStages, Synthesis1

Width = Annotated[int, Meta(ge=1, le=1024)]

# log gain of y at the lowest and the highest rate: a step is about 1 / sqrt(lambda)
FIRST_GAINS = (0.4, 2.6)


class HyperpriorOptions(Options, frozen=True):
    """Architecture, the widths those of the PLN."""

    widths: tuple[Width, Width, Width] = (64, 128, 192)
    """From the image inwards."""
    latent_channels: Width = 128
    """Of y, at stride 16."""
    hyper_width: Width = 96
    """Of the networks between y and z."""
    hyper_channels: Width = 64
    """Of z, at stride 64."""
    knots: Annotated[int, Meta(ge=2, le=64)] = 8
    """Rates at which gains are learned; between them they are interpolated."""
    linear: bool = False
    """Linear paths beside the networks, as the PLN's."""


class Analysis(AnalysisStages):
    """Image (B, 3, H, W), centred -> y before its gain, stride 16."""

    def __init__(self, widths: tuple[int, ...], channels: int, knots: int, linear: bool) -> None:
        super().__init__(widths, knots)
        self.linear = LinearAnalysis(channels) if linear else None
        self.last = MirrorConv2d(widths[-1], channels, stride=2)

    def forward(self, x: Tensor, blend: Tensor) -> Tensor:
        y = cast(Tensor, self.last(self.stages(x, blend)))
        return y if self.linear is None else y + self.linear(x)


class HyperAnalysis(nn.Module):
    """y before its gain -> z, stride 4."""

    def __init__(self, c_in: int, width: int, channels: int, knots: int) -> None:
        super().__init__()
        self.conv1 = MirrorConv2d(c_in, width, kernel=3)
        self.conv2 = MirrorConv2d(width, width, stride=2)
        self.conv3 = MirrorConv2d(width, channels, stride=2)
        self.gain = RateGain(channels, knots)
        with torch.no_grad():
            self.gain.log_gain.fill_(1.0)

    def forward(self, y: Tensor, blend: Tensor) -> Tensor:
        y = F.leaky_relu(self.conv1(y), LEAK)
        y = F.leaky_relu(self.conv2(y), LEAK)
        return cast(Tensor, self.gain(self.conv3(y).float(), blend))


class HyperSynthesis(nn.Module):
    """z -> mean and log scale of p(y | z), in steps; stride 1/4."""

    def __init__(self, c_in: int, width: int, channels: int, knots: int) -> None:
        super().__init__()
        self.gain = RateGain(c_in, knots)
        self.up1 = SubPixelConv2d(c_in, width)
        self.up2 = SubPixelConv2d(width, width)
        self.heads = GaussianHeads(width, channels, knots)
        with torch.no_grad():
            self.gain.log_gain.fill_(-1.0)
            slope = torch.linspace(*FIRST_GAINS, knots)[:, None].expand(-1, channels)
            self.heads.mean_gain.log_gain.copy_(slope)
            self.heads.scale_gain.log_gain.copy_(slope)

    def forward(self, z: Tensor, blend: Tensor) -> tuple[Tensor, Tensor]:
        x = F.leaky_relu(self.up1(self.gain(z, blend)), LEAK)
        x = F.leaky_relu(self.up2(x), LEAK)
        return cast(tuple[Tensor, Tensor], self.heads(x, blend))


class HyperpriorNetworks(nn.Module):
    """All that codes, conditioned on the rate in [0, 1] (0: fewest bits)."""

    options_class = HyperpriorOptions
    stride = 16
    """Sides of the images it takes are multiples of this ..."""
    least_side = 96
    """... and at least this, so that mirror padding has something to mirror."""
    reach = 32
    """Pixels around a piece of a picture that its analysis or its synthesis looks at."""

    def __init__(self, options: HyperpriorOptions) -> None:
        super().__init__()
        self.options = options
        f, g, m = options.latent_channels, options.hyper_channels, options.hyper_width
        knots = options.knots
        self.analysis = Analysis(options.widths, f, knots, options.linear)
        self.gain = RateGain(f, knots)
        self.hyper_analysis = HyperAnalysis(f, m, g, knots)
        self.hyper_synthesis = HyperSynthesis(g, m, f, knots)
        self.synthesis = Synthesis1(f, options.widths, knots, options.linear)
        with torch.no_grad():
            slope = torch.linspace(*FIRST_GAINS, knots)[:, None].expand(-1, f)
            self.gain.log_gain.copy_(slope)
            self.synthesis.gain.log_gain.copy_(-slope)

    def blend(self, rate: Tensor) -> Tensor:
        """Interpolation weights (B, knots) of the rates (B,)."""
        return interpolation_weights(rate, self.options.knots)

    def analyse(self, x: Tensor, blend: Tensor) -> tuple[Tensor, Tensor]:
        """Image (B, 3, H, W) in [0, 1] -> (y in steps, z), neither rounded."""
        return self.latents(self.features(x, blend), blend)

    def features(self, x: Tensor, blend: Tensor) -> Tensor:
        """Image (B, 3, H, W) in [0, 1] -> y before its gain."""
        return cast(Tensor, self.analysis((x - CENTRE) * SPREAD, blend))

    def latents(self, raw: Tensor, blend: Tensor) -> tuple[Tensor, Tensor]:
        """y before its gain -> (y in steps, z), neither rounded."""
        return self.gain(raw.float(), blend), self.hyper_analysis(raw, blend)

    def prior(self, z: Tensor, blend: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """p(y | z): mean and scale, (B, F, height, width)."""
        mean, log_scale = self.hyper_synthesis(z, blend)
        crop = (..., slice(height), slice(width))
        return mean[crop], log_scale[crop].clamp(-10.0, 10.0).exp()

    def reconstruct(self, y: Tensor, blend: Tensor) -> Tensor:
        """y in steps -> image (B, 3, H, W), not clipped."""
        return self.synthesis(y, blend).float() / SPREAD + CENTRE

    def add_channels(
        self, images: Sequence[Tensor], known: int, opens: float, objective: Objective
    ) -> None:
        """Put the channels of y from ``known`` on, which the networks ignore, to use on ``images``
        (B, 3, H, W): see ``fit_linear_paths``, and ``Start.opens``."""
        if self.analysis.linear is None or self.synthesis.linear is None:
            return
        heads, knots = self.hyper_synthesis.heads, self.options.knots
        heads.clear(known)
        shut = closing(knots, self.options.latent_channels - known, opens)
        self.synthesis.linear.open_with(shut)
        with torch.no_grad():
            self.analysis.last.weight[known:] = 0
            assert self.analysis.last.bias is not None
            self.analysis.last.bias[known:] = 0
            known_gain = self.gain.log_gain[-1, :known]
            shown = self.synthesis.gain.log_gain + self.synthesis.linear.gain.log_gain
            weight = fit_linear_paths(
                self.analysis.linear,
                self.analysis.last,
                self.synthesis.linear,
                torch.exp(known_gain + shown[-1, :known]),
                left_out(
                    images,
                    lambda x, rate: self.analyse(x, self.blend(rate))[0],
                    lambda y, rate: self.reconstruct(y, self.blend(rate)),
                    known_gain,
                ),
            )
            # a step whose noise, step^2 / 12, is worth its bits, or, where it is shut, too long
            # a step for any
            worth = log_worth(objective, knots)[:, None] - math.log(12)
            for gain in (self.gain, heads.mean_gain, heads.scale_gain):
                gain.log_gain[:, known:] = 0.5 * worth + weight - shut
            self.synthesis.gain.log_gain[:, known:] = -0.5 * worth - weight - 2 * shut


class Hyperprior(HyperpriorNetworks):
    """The networks and, for training, CompressAI's entropy models."""

    def __init__(self, options: HyperpriorOptions) -> None:
        super().__init__(options)
        entropy_models = submodule("entropy_models")
        self.bottleneck = entropy_models.EntropyBottleneck(options.hyper_channels, init_scale=4)
        self.conditional = entropy_models.GaussianConditional(None)
        # z is rounded to integers, not to a learned grid, and its tables are made on loading
        self.bottleneck.quantiles.requires_grad_(False)
        for part in (self.bottleneck, self.conditional):
            for name in ("_offset", "_quantized_cdf", "_cdf_length"):
                part.register_buffer(name, torch.IntTensor(), persistent=False)

    def training_pass(self, x: Tensor, rate: Tensor) -> TrainingPass:
        """Bits from latents with uniform noise, pixels from rounded ones.

        The gradient passes the rounding as if it weren't there (Minnen and Singh 2020,
        arXiv:2007.08739, section 3.3: noise for the rate, rounding for the distortion).
        """
        blend = self.blend(rate)
        y, z = self.analyse(x, blend)
        with torch.autocast(x.device.type, enabled=False):  # tails of densities need float32
            _, p_z = self.bottleneck(z.contiguous(), training=True)
        mean, scale = self.prior(rounded(z), blend, *y.shape[2:])
        with torch.autocast(x.device.type, enabled=False):
            _, p_y = self.conditional(y, scale, mean, training=True)
        x_hat = self.reconstruct(rounded(y - mean) + mean, blend)
        return TrainingPass(x_hat, {"y": bits(p_y), "z": bits(p_z)})

    def sort_channels(self, x: Tensor) -> None:
        """Sort the channels of y by their bits on images (B, 3, H, W), the largest first. What the
        networks compute stays the same."""
        blend = self.blend(torch.full((len(x),), 0.5, device=x.device))
        with torch.no_grad():
            y, z = self.analyse(x, blend)
            mean, scale = self.prior(rounded(z), blend, *y.shape[2:])
            _, p_y = self.conditional(y, scale, mean, training=True)
            order = (-p_y.log()).mean((0, 2, 3)).argsort(descending=True)
        last = self.analysis.last
        assert last.bias is not None
        reorder(last.weight, 0, order)
        reorder(last.bias, 0, order)
        if self.analysis.linear is not None:
            reorder(self.analysis.linear.weight, 0, order)
        reorder(self.gain.log_gain, 1, order)
        reorder(self.hyper_analysis.conv1.weight, 1, order)
        self.hyper_synthesis.heads.reorder(order)
        self.synthesis.reorder(order)


def rounded(x: Tensor) -> Tensor:
    """Rounded to integers, with the gradient of the identity."""
    return x + (torch.round(x) - x).detach()


def bits(probability: Tensor) -> Tensor:
    """-log2 of the product over everything but the batch, (B,)."""
    return -probability.log().sum((1, 2, 3)) / math.log(2)
