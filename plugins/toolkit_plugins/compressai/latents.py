"""CompressAI's hyperprior models, their latents rounded, dithered or sampled."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from toolkit.errors import UnknownName, UsageError
from toolkit.format.container import BadStream
from toolkit_plugins.compressai.checkpoints import (
    AUTOREGRESSIVE,
    Source,
    fetch,
    load_network,
    locate,
    sources,
    what_codes,
)
from toolkit_plugins.compressai.conditional import CompressAIModel
from toolkit_plugins.hyperprior.gaussian import GaussianModel
from toolkit_plugins.hyperprior.latent_codec import LatentCodec, LatentOptions

if TYPE_CHECKING:
    from toolkit.codec.base import DecodeSettings
    from toolkit.format.container import Container
    from toolkit.plugin.loader import Plugins
    from toolkit.plugin.specs import CodecSpec

ARCHITECTURES = (
    "bmshj2018-hyperprior",
    "mbt2018-mean",
    "bmshj2018-hyperprior-vbr",
    "mbt2018-mean-vbr",
)
METRICS: tuple[Literal["mse", "ms-ssim"], ...] = ("mse", "ms-ssim")
_PREAMBLE = struct.Struct("<BB")  # architecture, metric


class LatentsOptions(LatentOptions, frozen=True):
    """Options of the ``latents`` codec."""

    architecture: str = "mbt2018-mean"
    """One of ``ARCHITECTURES``."""
    metric: Literal["mse", "ms-ssim"] = "mse"
    """What the zoo's weights were trained for."""
    weights: str = ""
    """As for CompressAI's quantized codecs."""
    sha256: str = ""
    """Of the weights file, checked before it is loaded; empty: not checked."""


@lru_cache(maxsize=4)
def _at_rate(source: Source, point: float) -> CompressAIModel:
    return CompressAIModel(load_network(source), point)


class LatentsCodec(LatentCodec):
    """The same weights as the quantized codec of this name, the latents coded otherwise."""

    options_class = LatentsOptions

    def __init__(
        self, spec: CodecSpec, options: LatentsOptions, plugins: Plugins | None = None
    ) -> None:
        """Raises UsageError for an architecture whose latents can't be coded as a whole."""
        super().__init__(spec, options, plugins)
        name = options.architecture
        if name in AUTOREGRESSIVE:
            raise UsageError(
                f"architecture: {name} is autoregressive: its prior of a latent needs the latents "
                f"before it, so they can't be coded as a whole; codec '{name}' codes it quantized"
            )
        if name not in ARCHITECTURES:
            raise UnknownName("architecture", name, ARCHITECTURES)

    def source(self, point: float) -> Source:
        """Which network codes at this quality. Raises UsageError for a quality between two."""
        o = self.options
        variable = o.architecture.endswith("-vbr")
        if not variable and point != round(point):
            raise UsageError(f"{o.architecture}: quality must be a whole number, not {point:g}")
        quality = 0 if variable else round(point)
        return Source(o.architecture, quality, o.metric, o.weights, o.sha256)

    def model(self, point: float) -> GaussianModel:
        return _at_rate(self.source(point), point)

    def preamble(self) -> bytes:
        o = self.options
        return _PREAMBLE.pack(ARCHITECTURES.index(o.architecture), METRICS.index(o.metric))

    def require(self, points: Sequence[float]) -> None:
        fetch(self.source, points)

    def identity(self) -> dict[str, Any]:
        every = sources(self.source, self.spec.rate_parameter.low, self.spec.rate_parameter.high)
        return {**super().identity(), **what_codes(every)}

    def model_of_file(
        self, container: Container, point: float, settings: DecodeSettings
    ) -> GaussianModel:
        architecture, metric = _PREAMBLE.unpack_from(container.parameters)
        try:
            known = {"architecture": ARCHITECTURES[architecture], "metric": METRICS[metric]}
        except IndexError:
            raise BadStream(f"codec '{self.spec.name}': parameters no encoder writes") from None
        given = settings.weights
        weights = self.options.weights if given is None else str(given)
        options = LatentsOptions(weights=weights, **known)
        codec = LatentsCodec(self.spec, options, self.plugins)
        try:
            locate(codec.source(point), settings.download)
            return codec.model(point)
        except UsageError as error:  # a quality between two
            raise BadStream(str(error)) from None
