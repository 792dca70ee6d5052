"""The deep ladder: a residual top-down network of eight levels.

::

    x -> stride 4 -> e8 -> e16 -> e32 -> top level, prior N(0, 1)
                                           |
    h at stride 16, made of it; levels 7 to 4 code e16 and add to h
                                           |
    h at stride 8, made of it; levels 3 to 1 code e8 and add to h -> stride 4 -> x_hat

The synthesis is the prior's network: every sample adds to h, from which the next prior and in
the end the image are made (residual top-down ladders: Kingma et al. 2016, arXiv:1606.04934;
Child 2021, arXiv:2011.10650; for images at all rates Duan et al. 2023, arXiv:2208.13056).

All maps begin as coefficients of an orthonormal transform (``basis``), each in units of the
deviation that it has in photographs, and all nonlinear blocks near the identity: before its first
step it is a transform codec that rounds nothing, and learning goes on from there. In units of the
image a step of learning, which changes what every channel sees of every other by about as much,
would drown the fine coefficients in the coarse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

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
from toolkit_plugins.deep.basis import basis4, haar, variances
from toolkit_plugins.deep.layers import Heads, LatentBlock, Linear, Residual
from toolkit_plugins.networks.layers import (
    CENTRE,
    SPREAD,
    MirrorConv2d,
    RateGain,
    interpolation_weights,
)

Width = Annotated[int, Meta(ge=1, le=1024)]


class DeepOptions(Options, frozen=True):
    """Architecture of the deep ladder."""

    top: Width = 24
    """Latent channels at stride 32."""
    middle: tuple[Width, ...] = (24, 32, 48, 64)
    """Latent channels of the levels at stride 16, upper first."""
    fine: tuple[Width, ...] = (16, 24, 32)
    """Latent channels of the levels at stride 8, upper first."""
    width4: Annotated[int, Meta(ge=48, le=1024)] = 96
    """Channels of maps at stride 4 ..."""
    width8: Annotated[int, Meta(ge=192, le=1024)] = 192
    """... at stride 8, where 192 hold all coefficients ..."""
    width16: Annotated[int, Meta(ge=48, le=768)] = 224
    """... at stride 16: the coefficients that vary most ..."""
    width32: Width = 128
    """... and at stride 32."""
    hidden16: Width = 160
    """Channels within residual blocks at stride 16."""
    hidden: Width = 128
    """Channels within residual blocks at stride 8."""
    knots: Annotated[int, Meta(ge=2, le=64)] = 8
    """Rates at which gains are learned; between them they are interpolated."""
    scales: tuple[float, float] = (0.03, -3.17)
    """Natural logs of the posterior scales of coefficients at rates 0 and 1 to begin with: where
    ``lambda 255^2 MSE + bits`` has its minimum, for lambdas from 0.0005 to 0.3."""


class DeepPLN(LadderModel):
    """Residual top-down ladder, conditioned on the rate in [0, 1] (0: fewest bits).

    State: an empty map of the top level's shape; then h, at stride 16 or 8.
    """

    options_class = DeepOptions
    options: DeepOptions
    stride = 32
    least_side = 64
    reach = 192
    image_reach = 64

    def __init__(self, options: DeepOptions) -> None:
        super().__init__(options)
        o, k = options, options.knots
        self.depth = 1 + len(o.middle) + len(o.fine)
        variance = variances(16)
        kept = variance.argsort(descending=True)[: o.width16]
        sigma4, sigma8 = variances(4).sqrt(), variances(8).sqrt()[: o.width8]
        sigma16 = variance[kept].sqrt()
        to4 = basis4()
        to8 = haar(48)[: o.width8]
        to16 = haar(192)[kept][:, : 4 * o.width8]
        four4, four8 = sigma4.repeat_interleave(4), sigma8.repeat_interleave(4)

        self.stem = Linear(48, o.width4, to4 / sigma4[:, None])
        self.res4 = Residual(o.width4, o.width4, k)
        self.down8 = Linear(4 * o.width4, o.width8, to8 * four4 / sigma8[:, None])
        self.res8 = Residual(o.width8, o.hidden, k)
        self.down16 = Linear(4 * o.width8, o.width16, to16 * four8 / sigma16[:, None])
        self.res16 = nn.ModuleList(Residual(o.width16, o.hidden16, k) for _ in range(2))
        self.down32 = MirrorConv2d(o.width16, o.width32, 5, 2)
        self.res32 = Residual(o.width32, o.width32, k)

        self.top = Heads(o.width32, o.top, k)
        self.top_gain = RateGain(o.top, k)
        self.top_out = MirrorConv2d(o.top, o.width32, 3)
        self.top_res = Residual(o.width32, o.width32, k)
        self.up16 = MirrorConv2d(o.width32, 4 * o.width16, 1)
        with torch.no_grad():
            self.up16.weight.mul_(0.3)
        self.start16 = Residual(o.width16, o.hidden16, k)
        coded = sum(o.middle)
        self.middle = latent_blocks(
            o.middle, o.width16, o.hidden16, torch.arange(o.width16), variance[kept], o.scales, k
        )
        self.up8 = Linear(o.width16, 4 * o.width8, to16.T * sigma16 / four8[:, None])
        self.start8 = Residual(o.width8, o.hidden, k)
        # what of each coefficient of 8x8 blocks the levels at stride 16 leave
        variance[kept[:coded]] = 0
        left = (haar(192).T.square() @ variance).reshape(192, 4).mean(1)[: o.width8]
        order = left.argsort(descending=True)
        self.fine = latent_blocks(
            o.fine, o.width8, o.hidden, order, sigma8.square()[order], o.scales, k
        )
        self.up4 = Linear(o.width8, 4 * o.width4, to8.T * sigma8 / four4[:, None])
        self.end4 = Residual(o.width4, o.width4, k)
        self.last = Linear(o.width4, 48, to4.T * sigma4, 0.02)

    def blend(self, rate: Tensor) -> Tensor:
        """Interpolation weights (B, knots) of the rates (B,)."""
        return interpolation_weights(rate, self.options.knots)

    def analyse(self, x: Tensor, rate: Tensor) -> State:
        """e8, e16, and q of the top level: mean, log scale (its scale is below 1)."""
        blend = self.blend(rate)
        e4 = self.res4(self.stem(F.pixel_unshuffle((x - CENTRE) * SPREAD, 4)), blend)
        e8 = self.res8(self.down8(F.pixel_unshuffle(e4, 2)), blend)
        e16 = self.down16(F.pixel_unshuffle(e8, 2))
        for res in self.res16:
            e16 = res(e16, blend)
        mean, logit = self.top(self.res32(self.down32(e16), blend), blend)
        return e8, e16, mean, F.logsigmoid(logit)

    def start(self, size: Size, rate: Tensor) -> State:
        shape = (size.batch, self.options.top, size.height // 32, size.width // 32)
        return (rate.new_zeros(shape),)

    def _block(self, index: int) -> tuple[LatentBlock, bool]:
        """The block of a level below the top, and whether it is at stride 8."""
        below = index - 1
        fine = below >= len(self.middle)
        block = self.fine[below - len(self.middle)] if fine else self.middle[below]
        assert isinstance(block, LatentBlock)
        return block, fine

    def level(self, index: int, state: State, features: State | None, rate: Tensor) -> Level:
        if index == 0:
            posterior = None if features is None else Gaussian(*features[2:])
            return Level(standard_prior(state[0]), posterior)
        (block, fine), blend = self._block(index), self.blend(rate)
        prior = block.prior_of(state[0], blend)
        if features is None:
            return Level(prior)
        with self.encoder_arithmetic():
            encoder = block.encoder_of(state[0], features[0 if fine else 1], blend)
        return Level(prior, product_of_gaussians(encoder, prior))

    def descend(self, index: int, state: State, z: Tensor, rate: Tensor) -> State:
        blend = self.blend(rate)
        if index == 0:
            h = self.top_res(self.top_out(self.top_gain(z, blend)), blend)
            h = self.start16(F.pixel_shuffle(self.up16(h), 2), blend)
        else:
            h = self._block(index)[0].add(state[0], z, blend)
        if index == len(self.middle):
            h = self.start8(F.pixel_shuffle(self.up8(h), 2), blend)
        return (h,)

    def reconstruct(self, state: State, rate: Tensor) -> Tensor:
        h = self.end4(F.pixel_shuffle(self.up4(state[0]), 2), self.blend(rate))
        return F.pixel_shuffle(self.last(h), 4).float() / SPREAD + CENTRE


def latent_blocks(
    channels: Sequence[int],
    width: int,
    hidden: int,
    order: Tensor,
    variance: Tensor,
    scales: tuple[float, float],
    knots: int,
) -> nn.ModuleList:
    """Levels that share out a map's channels in this ``order``, whose coefficients have these
    variances."""
    blocks, at = nn.ModuleList(), 0
    for n in channels:
        which, sigma = order[at : at + n], variance[at : at + n].sqrt()
        blocks.append(LatentBlock(width, hidden, which, sigma, scales, knots))
        at += n
    return blocks
