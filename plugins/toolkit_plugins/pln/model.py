"""The probabilistic ladder network (PLN): a ladder of two levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor

from toolkit.entropy_model.base import (
    Gaussian,
    LadderModel,
    Level,
    Size,
    State,
    product_of_gaussians,
    standard_prior,
    standardised,
)
from toolkit.options import Options
from toolkit.training.recipe import Objective
from toolkit_plugins.networks.layers import (
    CENTRE,
    SPREAD,
    RateGain,
    interpolation_weights,
    reorder,
)
from toolkit_plugins.networks.linear import closing, fit_linear_paths, left_out, log_worth
from toolkit_plugins.networks.stages import Synthesis1
from toolkit_plugins.pln.networks import Analysis1, Analysis2, Synthesis2

Width = Annotated[int, Meta(ge=1, le=1024)]


class Combination(Options, frozen=True):
    """How the posterior of level 1 is made of the encoder's Gaussian N(mu_x, s_x^2) and the prior
    N(mu_p, s_p^2). The default is their product; section 3.2.2 prints another rule."""

    exponent: Literal[1, 2] = 2
    """e of the weights s^-e, whose sum is the posterior's scale to the power -e. 2: precisions. 1:
    as printed."""
    swapped: bool = False
    """Each mean has the other Gaussian's weight, as printed: a sharp encoder is ignored."""

    def posterior(self, encoder: Gaussian, prior: Gaussian) -> Gaussian:
        """The posterior in units of the prior."""
        if self.exponent == 2 and not self.swapped:
            return product_of_gaussians(encoder, prior)
        log_ratio = self.exponent * (prior.log_scale - encoder.log_scale)
        weight = torch.sigmoid(-log_ratio if self.swapped else log_ratio)
        d = (encoder.mean - prior.mean) * torch.exp(-prior.log_scale) * weight
        return Gaussian(d, -F.softplus(log_ratio) / self.exponent)


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
    knots: Annotated[int, Meta(ge=1, le=64)] = 8
    """Rates at which gains are learned; between them they are interpolated. 1: a model of one
    rate, as the thesis's."""
    linear: bool = False
    """Linear paths beside the networks: from blocks of 16x16 pixels to the means of level 1, and
    from z1 to such blocks. They carry the fine detail of high rates, which networks as narrow as
    these learn to drop."""
    output: Literal["linear", "sigmoid"] = "linear"
    """What the image is of the last layer's numbers; the thesis: a sigmoid."""
    combination: Combination = Combination()
    """How the posterior of level 1 is made."""


class PLNEncoderOptions(Options, frozen=True):
    """The thesis's errors, to show what they cost on given weights; decoders don't care."""

    combination: Combination | None = None
    """None: the one that the weights were trained with."""
    recomputed: bool = True
    """Whether the posterior of level 1 follows from the z2 that was coded. false, as the thesis's
    encoder did: from another sample of q(z2|x), and only the prior follows from the coded one."""


class PLN(LadderModel):
    """Two-level PLN, conditioned on the rate in [0, 1] (0: fewest bits).

    State: an empty map of z2's shape; mean and log scale of p(z1 | z2); z1.
    """

    options_class = PLNOptions
    options: PLNOptions
    encoder_options_class = PLNEncoderOptions
    encoder: PLNEncoderOptions
    stride = 32
    least_side = 96
    refined_by_samples = True
    depth = 2
    reach = 128
    image_reach = 32

    def __init__(self, options: PLNOptions) -> None:
        super().__init__(options)
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
        start_scales(self.analysis1.heads.scale_gain)

    def blend(self, rate: Tensor) -> Tensor:
        """Interpolation weights (B, knots) of the rates (B,)."""
        return interpolation_weights(rate, self.options.knots)

    def analyse(self, x: Tensor, rate: Tensor) -> State:
        """Mean and log scale of the encoder's Gaussian of z1; mean and log scale of q(z2|x), whose
        scale is below 1 (a sigmoid). With ``recomputed: false``, also the p(z1|z2) that the
        posterior of level 1 is made of."""
        blend = self.blend(rate)
        mu_x, log_s_x = encode1(self.analysis1, x, blend)
        mean, logit = self.analysis2(mu_x, blend)
        features = (mu_x, log_s_x, mean, F.logsigmoid(logit))
        return (
            features
            if self.encoder.recomputed
            else (*features, *self._prior_apart(*features[2:], rate))
        )

    def _prior_apart(self, mean: Tensor, log_scale: Tensor, rate: Tensor) -> State:
        """p(z1|z2) of a sample of q(z2|x) of its own, the same every time."""
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype).to(mean.device)
        with torch.autocast(mean.device.type, enabled=False):
            return self.descend(0, (), mean + torch.exp(log_scale) * noise, rate)

    def start(self, size: Size, rate: Tensor) -> State:
        shape = (size.batch, self.options.level2_channels, size.height // 32, size.width // 32)
        return (rate.new_zeros(shape),)

    def level(self, index: int, state: State, features: State | None, rate: Tensor) -> Level:
        if index == 0:
            return Level(
                standard_prior(state[0]), None if features is None else Gaussian(*features[2:4])
            )
        prior = Gaussian(*state)
        if features is None:
            return Level(prior)
        combination = self.encoder.combination or self.options.combination
        encoder, apart = Gaussian(*features[:2]), features[4:]
        if not apart:
            return Level(prior, combination.posterior(encoder, prior))
        d, log_r = combination.posterior(encoder, Gaussian(*apart))
        mean, log_scale = apart
        posterior = Gaussian(mean + torch.exp(log_scale) * d, log_scale + log_r)
        return Level(prior, standardised(posterior, prior))

    def descend(self, index: int, state: State, z: Tensor, rate: Tensor) -> State:
        if index == 1:
            return (z,)
        mean, log_scale = self.synthesis2(z, self.blend(rate))
        return mean, log_scale.clamp(-10.0, 10.0)

    def reconstruct(self, state: State, rate: Tensor) -> Tensor:
        return reconstruct(self.synthesis1, state[0], self.blend(rate), self.options.output)

    def add_channels(
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
                left_out(
                    images,
                    lambda x, rate: self.analyse(x, rate)[0],
                    lambda z1, rate: self.reconstruct((z1,), rate),
                    known_gain,
                ),
            )
            # a posterior as narrow as is worth its bits; wider than the prior where it is shut,
            # and there the synthesis must not see what comes, a sample of the prior
            narrow = -weight - 0.5 * log_worth(objective, knots)[:, None]
            heads.scale_gain.log_gain[:, known:] = narrow + shut
            self.synthesis1.gain.log_gain[:, known:] = -2 * shut

    def sort_channels(self, x: Tensor) -> None:
        """Sort the channels of both levels by their KL divergence on images (B, 3, H, W), the
        largest first.

        What the networks compute stays the same; side information of coders, such as a rate for
        each channel, gets smoother, so that it takes less to send.
        """
        order2, order1 = channels_by_bits(self, x)
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


def start_scales(gain: RateGain) -> None:
    """Distortion is traded at lambda ~ 1 / s_x^2: start the encoder's scales on that line."""
    knots, channels = gain.log_gain.shape
    if knots > 1:
        with torch.no_grad():
            slope = torch.linspace(1.1, -1.1, knots)[:, None]
            gain.log_gain.copy_(slope.expand(-1, channels))


def encode1(analysis: Analysis1, x: Tensor, blend: Tensor) -> tuple[Tensor, Tensor]:
    """Image (B, 3, H, W) in [0, 1] -> mean and log scale of the encoder's Gaussian of z1."""
    mean, log_scale = analysis((x - CENTRE) * SPREAD, blend)
    return mean, log_scale.clamp(-12.0, 6.0)


def reconstruct(
    synthesis: Synthesis1, z1: Tensor, blend: Tensor, output: Literal["linear", "sigmoid"]
) -> Tensor:
    """z1 -> image (B, 3, H, W), not clipped."""
    shown = synthesis(z1, blend).float()
    return torch.sigmoid(shown) if output == "sigmoid" else shown / SPREAD + CENTRE


def channels_by_bits(model: LadderModel, x: Tensor) -> list[Tensor]:
    """The channels of each level, top first, by their KL divergence at rate 0.5 on images
    (B, 3, H, W), the largest first; levels above are taken at their means."""
    orders: list[Tensor] = []

    def note(index: int, level: Level) -> Tensor:
        assert level.posterior is not None
        orders.append(level.kl_bits().mean((0, 2, 3)).argsort(descending=True))
        return level.posterior.mean

    with torch.no_grad():
        rate = torch.full((len(x),), 0.5, device=x.device)
        size = Size(len(x), x.shape[2], x.shape[3])
        model.walk(size, rate, model.analyse(x, rate), note)
    return orders
