"""A plugin for tests: a codec of one level that sends samples only where an option says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from msgspec import field

from toolkit import hookimpl
from toolkit.codec.base import Codec, Decoded, DecodeSettings, Encoded
from toolkit.options import Options
from toolkit.plugin.specs import CodecSpec
from toolkit.sampling.choice import SamplerChoice
from toolkit.sampling.contract import Sampler
from toolkit.sampling.ladder import Target
from toolkit.sampling.randomness import SharedRandom

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels


class FlatOptions(Options, frozen=True):
    """How pixels are coded."""

    coding: Literal["plain", "sampled"] = "plain"
    sampler: dict[str, Any] = field(default_factory=lambda: {"sampler": "greedy"})


class Flat(Codec):
    """Pixels as they are, or a sample of Gaussians around them."""

    options_class = FlatOptions

    def sampler_names(self) -> list[str]:
        return [self._choice().spec.name] if self.options.coding == "sampled" else []

    def options_with_sampler(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {"coding": "sampled", "sampler": dict(values)}

    def samplers(self) -> dict[str, Sampler]:
        return {"only": self._choice().build()} if self.options.coding == "sampled" else {}

    def _choice(self) -> SamplerChoice:
        return SamplerChoice.from_options(self.plugins, self.options.sampler, "sampler")

    def targets(self, pixels: Pixels, point: float) -> list[Target]:
        d = np.ascontiguousarray(pixels.transpose(2, 0, 1) / np.float32(128) - 1, np.float32)
        return [Target("only", d, np.full_like(d, 0.5))]

    def encode_pixels(self, pixels: Pixels, point: float) -> Encoded:
        if self.options.coding == "plain":
            return Encoded(pixels.tobytes())
        (target,) = self.targets(pixels, point)
        sampler = self.samplers()[target.name]
        return Encoded(sampler.encode(target.d, target.r, SharedRandom(0, 0)).data)

    def decode(self, data: bytes, settings: DecodeSettings = DecodeSettings()) -> Decoded:
        raise NotImplementedError("the bench decodes levels, not files")


@hookimpl
def toolkit_codecs() -> Iterator[CodecSpec]:
    yield CodecSpec("flat", "pixels, or samples of them", f"{__name__}:Flat")
