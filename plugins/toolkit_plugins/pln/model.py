"""The probabilistic ladder network as one module: training pass, and its pieces for coding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from toolkit.options import Options
from toolkit.training.objective import RateDistortion, TrainingPass
from toolkit.training.recipe import Objective
from toolkit_plugins.networks.layers import interpolation_weights, reorder
from toolkit_plugins.networks.linear import closing, fit_linear_paths
from toolkit_plugins.pln.networks import Analysis1, Analysis2, Synthesis1, Synthesis2

Width = Annotated[int, Meta(ge=1, le=1024)]

# Pixels in [0, 1] enter and leave the networks centred and scaled to about unit variance.
CENTRE, SPREAD = 0.5, 4.0


class PLNOptions(Options, frozen=True):
    """Architecture of a PLN, named as in the caption of figure 3.2."""

    widths: tuple[Width, Width, Width] = (64, 128, 192)
    """N, from the image inwards (the thesis: 192 throughout)."""
    level1_channels: Width = 128
    """F: channels of z1, at stride 16."""
    level2_width: Width = 96
    """M: width of the networks between the levels (the thesis: 128)."""
    level2_channels: Width = 24
    """G: channels of z2, at stride 32."""
    knots: Annotated[int, Meta(ge=2, le=64)] = 8
    """Rates at which gains are learned; between them they are interpolated."""
    linear: bool = False
    """Linear paths beside the networks: from blocks of 16x16 pixels to the means of level 1, and
    from z1 to such blocks. They carry the fine detail of high rates, which networks as narrow as
    these learn to drop."""


def product_of_gaussians(
    mu_x: Tensor, log_s_x: Tensor, mu_p: Tensor, log_s_p: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Posterior N(mu_x, s_x^2) N(mu_p, s_p^2), standardised by the prior N(mu_p, s_p^2).

    Precision-weighted: ``v = 1 / (s_x^-2 + s_p^-2)``, ``mu = (s_x^-2 mu_x + s_p^-2 mu_p) v``.
    (Section 3.2.2 prints sigma^-1 for sigma^-2 and gives each mean the other Gaussian's
    weight, so that a sharp encoder is ignored; this is the correction.)

    Returns (d, log r, a): mean and log scale in units of the prior, and ``a = 1 - r^2``, the
    share of the precision that the encoder brings.
    """
    log_ratio = 2 * (log_s_p - log_s_x)
    share = torch.sigmoid(log_ratio)
    d = (mu_x - mu_p) * torch.exp(-log_s_p) * share
    return d, -0.5 * F.softplus(log_ratio), share


def kl_bits(d: Tensor, log_r: Tensor) -> Tensor:
    """KL[N(d, r^2) || N(0, 1)] in bits, elementwise."""
    return (0.5 / math.log(2)) * (d * d + torch.exp(2 * log_r) - 1 - 2 * log_r)


def log_worth(objective: Objective, knots: int) -> Tensor:
    """Logarithm of 1 / (s^2 w^2), (knots,) from rate 0 to 1, for the best posterior scale s of a
    latent that weighs w in the centred image: where ``lambda 255^2 MSE + bits`` has its minimum,
    1 / (s ln 2) = 2 lambda 255^2 s w^2 / (3 SPREAD^2). Lambdas of another distortion say nothing of
    MSE: then those that an ``Objective`` has by default stand in."""
    mse = objective if objective.distortion == "mse" else Objective()
    lambdas = RateDistortion(mse).lambdas(torch.linspace(0, 1, knots))
    return torch.log(lambdas * (2 * math.log(2) * 255**2 / (3 * SPREAD**2)))


def left_out(
    images: Iterable[Tensor],
    blend_of: Callable[[Tensor], Tensor],
    latents_of: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    reconstruct: Callable[[Tensor, Tensor], Tensor],
    log_gain: Tensor,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """What ``fit_linear_paths`` wants to know of images (B, 3, H, W) in [0, 1], coded at rate 1:
    them and what the reconstruction lacks, centred, and the first K latents without their
    ``log_gain``, (K,)."""
    for x in images:
        blend = blend_of(torch.ones(len(x), device=x.device))
        latents = latents_of(x, blend)[0]
        missing = SPREAD * (x - reconstruct(latents, blend))
        known = latents[:, : len(log_gain)] * torch.exp(-log_gain)[:, None, None]
        yield (x - CENTRE) * SPREAD, missing, known


class PLN(nn.Module):
    """Two-level PLN, conditioned on the rate in [0, 1] (0: fewest bits)."""

    options_class = PLNOptions

    stride = 32
    """Sides of the images it takes are multiples of this ..."""
    least_side = 96
    """... and at least this, so that mirror padding has something to mirror."""

    def __init__(self, options: PLNOptions) -> None:
        super().__init__()
        self.options = options
        f, g, m, knots = (
            options.level1_channels,
            options.level2_channels,
            options.level2_width,
            options.knots,
        )
        self.analysis1 = Analysis1(options.widths, f, knots, options.linear)
        self.analysis2 = Analysis2(f, m, g, knots)
        self.synthesis2 = Synthesis2(g, m, f, knots)
        self.synthesis1 = Synthesis1(f, options.widths, knots, options.linear)
        # Distortion is traded at lambda ~ 1 / s_x^2: start the scales on that line.
        with torch.no_grad():
            slope = torch.linspace(1.1, -1.1, knots)[:, None]
            self.analysis1.heads.scale_gain.log_gain.copy_(slope.expand(-1, f))

    def blend(self, rate: Tensor) -> Tensor:
        """Interpolation weights (B, knots) of the rates (B,)."""
        return interpolation_weights(rate, self.options.knots)

    def encode1(self, x: Tensor, blend: Tensor) -> tuple[Tensor, Tensor]:
        """Image (B, 3, H, W) in [0, 1] -> mean and log scale of the encoder's Gaussian."""
        mean, log_scale = self.analysis1((x - CENTRE) * SPREAD, blend)
        return mean, log_scale.clamp(-12.0, 6.0)

    def posterior2(self, mu_x: Tensor, blend: Tensor) -> tuple[Tensor, Tensor]:
        """q(z2|x): (d, log r) against the prior N(0, 1); r < 1 (a sigmoid)."""
        mean, logit = self.analysis2(mu_x, blend)
        return mean, F.logsigmoid(logit)

    def prior1(self, z2: Tensor, blend: Tensor) -> tuple[Tensor, Tensor]:
        """p(z1|z2): mean and log scale."""
        mean, log_scale = self.synthesis2(z2, blend)
        return mean, log_scale.clamp(-10.0, 10.0)

    def reconstruct(self, z1: Tensor, blend: Tensor) -> Tensor:
        """z1 -> image (B, 3, H, W), not clipped."""
        return self.synthesis1(z1, blend).float() / SPREAD + CENTRE

    def training_pass(self, x: Tensor, rate: Tensor) -> TrainingPass:
        """One sample through the ladder: what the loss needs.

        The level-1 term is an expectation over q(z2|x), taken by one sample (the KL chain
        rule; section 3.2.2 leaves the expectation out).
        """
        blend = self.blend(rate)
        mu_x, log_s_x = self.encode1(x, blend)
        d2, log_r2 = self.posterior2(mu_x, blend)
        z2 = d2 + torch.randn_like(d2) * torch.exp(log_r2)
        mu_p, log_s_p = self.prior1(z2, blend)
        d1, log_r1, _ = product_of_gaussians(mu_x, log_s_x, mu_p, log_s_p)
        c1 = d1 + torch.randn_like(d1) * torch.exp(log_r1)
        x_hat = self.reconstruct(mu_p + torch.exp(log_s_p) * c1, blend)
        bits = {
            "level1": kl_bits(d1, log_r1).sum((1, 2, 3)),
            "level2": kl_bits(d2, log_r2).sum((1, 2, 3)),
        }
        return TrainingPass(x_hat, bits)

    def grow(
        self, images: Sequence[Tensor], known: int, opens: float, objective: Objective
    ) -> None:
        """Put the channels of level 1 from ``known`` on, which the networks ignore, to use on
        ``images`` (B, 3, H, W): see ``fit_linear_paths``, and ``Start.opens``."""
        if self.analysis1.linear is None or self.synthesis1.linear is None:
            return
        knots, heads = self.options.knots, self.analysis1.heads
        heads.clear(known)
        self.synthesis2.heads.clear(known)
        shut = closing(knots, self.options.level1_channels - known, opens)
        self.synthesis1.linear.open_with(shut)
        with torch.no_grad():
            known_gain = heads.mean_gain.log_gain[-1, :known]
            shown = self.synthesis1.gain.log_gain + self.synthesis1.linear.gain.log_gain
            weight = fit_linear_paths(
                self.analysis1.linear,
                heads.mean,
                self.synthesis1.linear,
                torch.exp(known_gain + shown[-1, :known]),
                left_out(images, self.blend, self.encode1, self.reconstruct, known_gain),
            )
            # a posterior as narrow as is worth its bits; wider than the prior where it is shut,
            # and there the synthesis must not see what comes, a sample of the prior
            narrow = -weight - 0.5 * log_worth(objective, knots)[:, None]
            heads.scale_gain.log_gain[:, known:] = narrow + shut
            self.synthesis1.gain.log_gain[:, known:] = -2 * shut

    def tidy(self, x: Tensor) -> None:
        """Sort the channels of both levels by their KL divergence on images (B, 3, H, W), the
        largest first.

        What the networks compute stays the same; side information of coders, such as a rate for
        each channel, gets smoother, so that it takes less to send.
        """
        blend = self.blend(torch.full((len(x),), 0.5, device=x.device))
        with torch.no_grad():
            mu_x, log_s_x = self.encode1(x, blend)
            d2, log_r2 = self.posterior2(mu_x, blend)
            d1, log_r1, _ = product_of_gaussians(mu_x, log_s_x, *self.prior1(d2, blend))
        order1, order2 = (
            kl_bits(d, log_r).mean((0, 2, 3)).argsort(descending=True)
            for d, log_r in ((d1, log_r1), (d2, log_r2))
        )
        for heads in (self.analysis1.heads, self.synthesis2.heads):
            heads.reorder(order1)
        if self.analysis1.linear is not None:
            reorder(self.analysis1.linear.weight, 0, order1)
        reorder(self.analysis2.gain.log_gain, 1, order1)
        reorder(self.analysis2.conv1.weight, 1, order1)
        self.synthesis1.reorder(order1)
        self.analysis2.heads.reorder(order2)
        reorder(self.synthesis2.gain.log_gain, 1, order2)
        reorder(self.synthesis2.up.conv.weight, 1, order2)
