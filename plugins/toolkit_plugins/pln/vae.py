"""The thesis's baseline: a variational auto-encoder, a ladder of one level."""

from __future__ import annotations

from typing import Annotated, Literal

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
)
from toolkit.options import Options
from toolkit_plugins.networks.layers import interpolation_weights
from toolkit_plugins.networks.stages import Synthesis1
from toolkit_plugins.pln.model import Width, channels_by_bits, encode1, reconstruct, start_scales
from toolkit_plugins.pln.networks import Analysis1


class VAEOptions(Options, frozen=True):
    """Architecture of the VAE, named as the PLN's."""

    widths: tuple[Width, Width, Width] = (64, 128, 192)
    """From the image inwards (the thesis: 192 throughout)."""
    level1_channels: Width = 128
    """Channels of z, at stride 16."""
    knots: Annotated[int, Meta(ge=1, le=64)] = 8
    """Rates at which gains are learned; between them they are interpolated. 1: a model of one
    rate, as the thesis's."""
    output: Literal["linear", "sigmoid"] = "linear"
    """What the image is of the last layer's numbers; the thesis: a sigmoid."""
    posterior: Literal["product", "encoder"] = "product"
    """product: of the encoder's Gaussian and the prior, as in the PLN, so that it is never wider
    than the prior. encoder: the encoder's Gaussian itself, as in the thesis."""


class VAE(LadderModel):
    """One level with prior N(0, 1): the image networks of the PLN without what is between its
    levels (Flamich 2019, section 3.2.1, figure 3.1), conditioned on the rate.

    State: an empty map of z's shape; z.
    """

    options_class = VAEOptions
    options: VAEOptions
    stride = 16
    least_side = 96
    depth = 1
    reach = 32

    def __init__(self, options: VAEOptions) -> None:
        super().__init__(options)
        channels, knots = options.level1_channels, options.knots
        self.analysis1 = Analysis1(options.widths, channels, knots, linear=False)
        self.synthesis1 = Synthesis1(channels, options.widths, knots, linear=False)
        start_scales(self.analysis1.heads.scale_gain)

    def blend(self, rate: Tensor) -> Tensor:
        """Interpolation weights (B, knots) of the rates (B,)."""
        return interpolation_weights(rate, self.options.knots)

    def analyse(self, x: Tensor, rate: Tensor) -> State:
        """Mean and log scale of the encoder's Gaussian."""
        return encode1(self.analysis1, x, self.blend(rate))

    def start(self, size: Size, rate: Tensor) -> State:
        shape = (size.batch, self.options.level1_channels, size.height // 16, size.width // 16)
        return (rate.new_zeros(shape),)

    def level(self, index: int, state: State, features: State | None, rate: Tensor) -> Level:
        prior = standard_prior(state[0])
        if features is None:
            return Level(prior)
        encoder = Gaussian(*features)
        if self.options.posterior == "encoder":
            return Level(prior, encoder)
        return Level(prior, product_of_gaussians(encoder, prior))

    def descend(self, index: int, state: State, z: Tensor, rate: Tensor) -> State:
        return (z,)

    def reconstruct(self, state: State, rate: Tensor) -> Tensor:
        return reconstruct(self.synthesis1, state[0], self.blend(rate), self.options.output)

    def sort_channels(self, x: Tensor) -> None:
        """Sort the channels by their KL divergence on images (B, 3, H, W), the largest first; what
        the networks compute stays the same."""
        (order,) = channels_by_bits(self, x)
        self.analysis1.heads.reorder(order)
        self.synthesis1.reorder(order)
