"""CompressAI's architectures as entropy models that ``toolkit train`` trains.

The networks and their training pass are CompressAI's: latents with uniform noise, or rounded
with the gradient of the identity where its variable-rate models do so. What is exported is coded by
the codec of the same name (``-o weights=FILE``), beside the zoo's weights.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from toolkit.options import Options
from toolkit.training.objective import TrainingPass
from toolkit_plugins.compressai.checkpoints import TABLES, model_class
from toolkit_plugins.compressai.rans import multiple
from toolkit_plugins.hyperprior.model import bits

Width = Annotated[int, Meta(ge=1, le=1024)]
_QUANTILE_STEPS = 32
_FARTHEST = 2.0**12
"""Quantiles are looked for up to here; latents lie within a few hundred."""


class ArchitectureOptions(Options, frozen=True):
    """Sizes of the networks; by default those of the zoo's lower qualities."""

    width: Width = 128
    """Channels of the networks: CompressAI's N."""
    latent_channels: Width = 192
    """Of y: CompressAI's M."""


class OneWidthOptions(Options, frozen=True):
    """Size of the networks whose latents are as wide as they are."""

    width: Width = 128
    """Channels: CompressAI's N."""


class Architecture(nn.Module):
    """One of CompressAI's architectures; a class for each, since a descriptor names a class.

    Those of one rate see nothing of ``rate``: they are to be trained for one lambda
    (``objective.lambda_min`` and ``lambda_max`` the same).
    """

    name: ClassVar[str]
    """CompressAI's."""
    options_class: ClassVar[type[Options]] = ArchitectureOptions

    def __init__(self, options: ArchitectureOptions | OneWidthOptions) -> None:
        super().__init__()
        self.options = options
        sizes = [getattr(options, field) for field in options.__struct_fields__]
        net: Any = model_class(self.name)(*sizes)
        for part in net.modules():
            for name, value in part.named_buffers(recurse=False):
                if name in TABLES:  # made when weights are loaded
                    part.register_buffer(name, value, persistent=False)
        net.entropy_bottleneck.quantiles.requires_grad_(False)
        self.net = net

    def training_pass(self, x: Tensor, rate: Tensor) -> TrainingPass:
        """CompressAI's own pass, in float32, which tails of densities need."""
        height, width = x.shape[2:]
        step = multiple(self.name)
        padded = F.pad(x, (0, -width % step, 0, -height % step), mode="replicate")
        settle_quantiles(self.net.entropy_bottleneck)
        with torch.autocast(x.device.type, enabled=False):
            # channels last, batches as they come would corrupt memory in cheng2020's backward
            # pass on the CPU (torch 2.13)
            x_hat, likelihoods = self.run(padded.float().contiguous(), rate)
        return TrainingPass(
            x_hat[:, :, :height, :width], {name: bits(p) for name, p in likelihoods.items()}
        )

    def run(self, x: Tensor, rate: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Images (B, 3, H, W), sides multiples of the stride, at the rates (B,) -> images, not
        clipped, and the probabilities of what is sent, by its name."""
        found = self.net(x)
        return found["x_hat"], found["likelihoods"]


class VariableRate(Architecture):
    """One that takes one of eight steps of the quantizer, which the rate chooses.

    The steps themselves are constants, as in CompressAI.
    """

    def __init__(self, options: ArchitectureOptions) -> None:
        super().__init__(options)
        self.net.Gain.requires_grad_(False)

    def run(self, x: Tensor, rate: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See ``Architecture.run``; picture by picture, since a pass has one step."""
        steps = (rate * (self.net.levels - 1)).round().long().tolist()
        found = [self.net(image[None], s=step) for image, step in zip(x, steps, strict=True)]
        names = found[0]["likelihoods"]
        return torch.cat([one["x_hat"] for one in found]), {
            name: torch.cat([one["likelihoods"][name] for one in found]) for name in names
        }


def settle_quantiles(bottleneck: Any) -> None:
    """Set the quantiles of an ``EntropyBottleneck`` to those of its density, by bisection.

    Its tables lie between the outer two and its symbols around the median. CompressAI learns them
    beside the network, with a loss and an optimizer of their own (``aux_loss``).
    """
    with torch.no_grad():
        high = torch.full_like(bottleneck.quantiles, _FARTHEST)
        low = -high
        for _ in range(_QUANTILE_STEPS):
            middle = (low + high) / 2
            above = bottleneck._logits_cumulative(middle, stop_gradient=True) > bottleneck.target
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        bottleneck.quantiles.copy_((low + high) / 2)


class FactorizedPrior(Architecture):
    name = "bmshj2018-factorized"


class ScaleHyperprior(Architecture):
    name = "bmshj2018-hyperprior"


class MeanScaleHyperprior(Architecture):
    name = "mbt2018-mean"


class JointAutoregressive(Architecture):
    name = "mbt2018"


class Cheng2020Anchor(Architecture):
    name = "cheng2020-anchor"
    options_class = OneWidthOptions


class Cheng2020Attention(Architecture):
    name = "cheng2020-attn"
    options_class = OneWidthOptions


class ScaleHyperpriorVariable(VariableRate):
    name = "bmshj2018-hyperprior-vbr"


class MeanScaleHyperpriorVariable(VariableRate):
    name = "mbt2018-mean-vbr"


class JointAutoregressiveVariable(VariableRate):
    name = "mbt2018-vbr"
