"""A stand-in for CompressAI's ``GaussianConditional`` that codes samples instead of rounding.

::

    from toolkit_plugins.compressai.sampled import SampledGaussianConditional

    model = bmshj2018_hyperprior(quality=3)
    model.gaussian_conditional = SampledGaussianConditional(None)

Training, ``forward``, ``compress``, ``decompress``, ``update`` and loading of weights go on as
before. Where the original rounds y, or adds uniform noise for training, this one takes

    y_hat, a sample of N(y, w^2),    against the prior N(mean, scale^2 + w^2),

which is what the model says of y with that noise; w is 1/sqrt(12), uniform noise's, by default.
What is trained is then what is coded: the same noise, the bits that files have. The strings are
those of ``toolkit.sampling.encode_gaussians``: decoding them needs no tables, and priors that
differ in their last digits from the encoder's (another device, another precision) do no harm.

Importing this module imports CompressAI.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.errors import UsageError
from toolkit.sampling import decode_gaussians, encode_gaussians
from toolkit_plugins.compressai.upstream import submodule

_models = submodule("entropy_models")
GaussianConditional: Any = _models.GaussianConditional
UNIFORM_NOISE = 12**-0.5


class SampledGaussianConditional(GaussianConditional):  # type: ignore[misc]
    """See the module.

    Arguments:
        scale_table: taken for compatibility; nothing depends on it.
        width: w, the posterior's standard deviation.
        sampler: name of a coded sampler.
        options: the sampler's.
        seed: of the shared random numbers.
        more: what ``GaussianConditional`` takes: ``scale_bound``, ``likelihood_bound``, ...
    """

    def __init__(
        self,
        scale_table: Sequence[float] | None = None,
        *more: Any,
        width: float = UNIFORM_NOISE,
        sampler: str = "trellis",
        options: Mapping[str, Any] | None = None,
        seed: int = 0,
        **keywords: Any,
    ) -> None:
        super().__init__(scale_table, *more, **keywords)
        if not 0 < width < math.inf:
            raise UsageError(f"width: above 0, not {width}")
        self.width, self.seed = float(width), seed
        self.sampler, self.options = sampler, dict(options or {})

    def update(self) -> None:
        """Nothing: there are no tables to make."""

    def quantize(self, inputs: Tensor, mode: str, means: Tensor | None = None) -> Tensor:
        """``inputs`` with the posterior's noise, whatever the ``mode``; symbols there are none.

        Raises ValueError for those.
        """
        if mode not in ("noise", "dequantize"):
            raise ValueError(f"no '{mode}': samples are coded, nothing is rounded")
        return inputs + self.width * torch.randn_like(inputs)

    def forward(
        self,
        inputs: Tensor,
        scales: Tensor,
        means: Tensor | None = None,
        training: bool | None = None,
    ) -> tuple[Tensor, Tensor]:
        """A sample of the posterior, and "likelihoods" of which -log2 is the KL, in bits.

        Arguments:
            inputs: y, of any shape.
            scales: of the prior, shaped as ``inputs``.
            means: of the prior; None: 0.
            training: no difference: the same noise is trained with and coded.

        Returns:
            The sample and 2^-KL, shaped as ``inputs``; both have gradients.
        """
        likelihood = torch.exp2(-self.kl_bits(inputs, scales, means))
        if self.use_likelihood_bound:
            likelihood = self.likelihood_lower_bound(likelihood)
        return self.quantize(inputs, "noise"), likelihood

    def kl_bits(self, inputs: Tensor, scales: Tensor, means: Tensor | None = None) -> Tensor:
        """KL[N(y, w^2) || N(mean, scale^2 + w^2)] of each element, in bits."""
        ratio = self.width / self._spread(scales)
        d = (inputs if means is None else inputs - means) * ratio / self.width
        return (d * d + ratio * ratio - 1 - 2 * torch.log(ratio)) / (2 * math.log(2))

    def _spread(self, scales: Tensor) -> Tensor:
        """Standard deviation of the prior with the noise."""
        bounded: Tensor = self.lower_bound_scale(scales)
        return torch.sqrt(bounded * bounded + self.width * self.width)

    def build_indexes(self, scales: Tensor) -> Tensor:
        """The scales themselves: what ``compress`` and ``decompress`` take for indexes."""
        return scales

    def compress(self, inputs: Tensor, indexes: Tensor, means: Tensor | None = None) -> list[bytes]:
        """A string for each of a batch.

        Arguments:
            inputs: y, (B, C, ...).
            indexes: what ``build_indexes`` returned, shaped as ``inputs``.
            means: of the prior; None: 0.
        """
        if inputs.shape != indexes.shape or inputs.dim() < 2:
            raise ValueError(f"y {tuple(inputs.shape)}, its scales {tuple(indexes.shape)}")
        spread, centre = self._prior(indexes, means)
        return [
            encode_gaussians(
                y.float(), self.width, m, s, self.sampler, self.seed, channel_axis=0, **self.options
            )
            for y, m, s in zip(inputs, centre, spread, strict=True)
        ]

    def decompress(
        self,
        strings: Sequence[bytes],
        indexes: Tensor,
        dtype: torch.dtype = torch.float,
        means: Tensor | None = None,
    ) -> Tensor:
        """The samples that ``compress`` coded, (B, C, ...), on the device of the ``indexes``.

        Raises a ``toolkit.format.errors.BadFile`` for a string that is damaged.
        """
        if not isinstance(strings, (list, tuple)) or len(strings) != len(indexes):
            raise ValueError(f"{len(strings)} strings for a batch of {len(indexes)}")
        spread, centre = self._prior(indexes, means)
        decoded = [
            decode_gaussians(data, m, s) for data, m, s in zip(strings, centre, spread, strict=True)
        ]
        return torch.stack(decoded).to(dtype if means is None else means.dtype)

    def _prior(self, scales: Tensor, means: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scales and means, float32, of the same shape."""
        spread = self._spread(scales.detach().float())
        centre = torch.zeros_like(spread) if means is None else means.detach().float()
        return spread, centre.expand_as(spread)


def code_samples(model: nn.Module, **settings: Any) -> nn.Module:
    """Let a CompressAI model code samples: every ``GaussianConditional`` in it is replaced.

    Arguments:
        model: changed in place; its weights stay.
        settings: of ``SampledGaussianConditional``: ``width``, ``sampler``, ``options``, ``seed``.

    Returns:
        The model.

    Raises:
        UsageError: it has none, or is autoregressive: the prior of a latent needs its neighbours
            as decoded, so that they can't be coded as a whole.
    """
    if hasattr(model, "context_prediction"):
        raise UsageError(f"{type(model).__name__} is autoregressive: it can't be coded as a whole")
    found: list[tuple[nn.Module, str, Any]] = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is GaussianConditional
    ]
    if not found:
        raise UsageError(f"{type(model).__name__} has no GaussianConditional")
    for parent, name, child in found:
        bound = float(child.scale_bound)
        new = SampledGaussianConditional(None, scale_bound=bound, **settings)
        setattr(parent, name, new.train(child.training).to(child.scale_bound.device))
    return model
