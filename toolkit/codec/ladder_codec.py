"""One codec for every entropy model that sends samples, of any depth, with any samplers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, field

from toolkit.codec.base import Decoded, DecodeSettings, Theoretical
from toolkit.codec.byte_budget import fill
from toolkit.codec.container_codec import ContainerCodec, Payload, Room, weights_of_file
from toolkit.codec.level_table import RATE_STEPS, names_of, pack_table, read_table
from toolkit.device import resolve_device
from toolkit.errors import UsageError
from toolkit.format.container import BadStream
from toolkit.format.limits import check_memory
from toolkit.format.weights import find_weights, load_weights, weights_of_fingerprint
from toolkit.options import Options, parse_options
from toolkit.plugin.presets import merge
from toolkit.sampling.capabilities import FitsBytes
from toolkit.sampling.choice import SamplerChoice
from toolkit.sampling.ladder import (
    decode_ladder,
    encode_ladder,
    sample_ladder,
    theoretical_bits,
)

if TYPE_CHECKING:
    from toolkit.codec.base import LatentLevel, Pixels
    from toolkit.entropy_model.network import LadderNetwork
    from toolkit.entropy_model.refinement import EncoderRefinement
    from toolkit.format.container import Container
    from toolkit.plugin.loader import Plugins
    from toolkit.plugin.specs import CodecSpec, EntropyModelSpec
    from toolkit.sampling.contract import Sampler
    from toolkit.sampling.ladder import EncodeLadder, Target
    from toolkit.sampling.rate_prediction import RateWalk

DEFAULT = "default"
DEFAULT_SAMPLER = {"sampler": "trellis"}
LEAST_BITS = 64.0
"""A level isn't sent, but taken at its prior's mean, where that costs no more than this."""
_LEVEL = re.compile(r"level[1-9][0-9]?")


class LadderOptions(Options, frozen=True):
    """Options of codecs that send samples."""

    weights: str = ""
    """Shipped weights by name, a .safetensors file, or the URL of one (https://, hf://) with its
    hash; empty: those named as the model."""
    levels: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Sampler of each level: ``sampler`` names it, the rest are its options. ``default`` is for
    all levels; ``level1`` (nearest the image), ``level2`` and so on are laid over it."""
    seed: Annotated[int, Meta(ge=0, le=255)] = 0
    """Of the shared random numbers."""
    refinement_steps: Annotated[int, Meta(ge=0, le=10000)] = 0
    """Gradient steps that refine the posterior of each picture before it is coded. Encoder
    only: files don't say it, decoders take no longer."""
    encoder: dict[str, Any] = field(default_factory=dict)
    """Options of the model's encoder, if it has any (``encoder_options_class``). Encoder only."""


class LadderCodec(ContainerCodec):
    """Codes a sample of each level of a model's ladder, top first.

    The model is the one that the weights file names; the codec has its name.
    """

    options_class = LadderOptions
    stream_version = 2
    readable_versions = (1, 2)

    def __init__(
        self, spec: CodecSpec, options: LadderOptions, plugins: Plugins | None = None
    ) -> None:
        super().__init__(spec, options, plugins)
        self.choices = {
            name: SamplerChoice.from_options(self.plugins, self._sampler_options(name), name)
            for name in (DEFAULT, *options.levels)
        }
        self._encoder_options()

    def _encoder_options(self) -> Options | None:
        """None where there are none, so that no network code is imported only to check them."""
        if not self.options.encoder:
            return None
        cls = self.model.loaded.encoder_options_class
        return parse_options(cls, self.options.encoder, f"codec '{self.spec.name}': encoder")

    def _sampler_options(self, name: str) -> Mapping[str, Any]:
        levels = self.options.levels
        if name != DEFAULT and not _LEVEL.fullmatch(name):
            raise UsageError(
                f"levels: '{name}' is no level: they are 'default', and 'level' with a number, 1 "
                "nearest the image"
            )
        # under a key of their own: only there does another sampler drop the old one's options
        laid = merge({"_": DEFAULT_SAMPLER}, {"_": levels.get(DEFAULT, {})})
        if name != DEFAULT:
            laid = merge(laid, {"_": levels[name]})
        options: dict[str, Any] = laid["_"]
        return options

    # -- parts -------------------------------------------------------------------

    @property
    def model(self) -> EntropyModelSpec:
        """The entropy model's descriptor."""
        assert self.spec.model is not None
        return self.spec.model

    @property
    def weights(self) -> Path:
        """The weights file. Raises MissingError."""
        return find_weights(self.options.weights or self.model.name, self.model.weights_folder)

    def network(self) -> LadderNetwork:
        """The network of the weights. Raises UsageError for options of a level that it hasn't."""
        from toolkit.entropy_model.network import load_network

        network = load_network(
            self.model, self.weights, "float32", self._encoder_options(), self.device
        )
        depth = network.model.depth
        for name in self.options.levels:
            if name != DEFAULT and int(name.removeprefix("level")) > depth:
                raise UsageError(f"levels: no {name}: the model of these weights has {depth}")
        return network

    def level_choices(self, network: LadderNetwork) -> dict[str, SamplerChoice]:
        """Level name -> sampler chosen, top level first."""
        model = network.model
        names = [model.name(index) for index in range(model.depth)]
        return {name: self.choices.get(name, self.choices[DEFAULT]) for name in names}

    def sampler_names(self) -> list[str]:
        """Names of the samplers that the options choose: all levels', then those of levels of their
        own."""
        return list(dict.fromkeys(choice.spec.name for choice in self.choices.values()))

    def options_with_sampler(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The options to change so that every level is coded by one sampler."""
        return {"levels": {DEFAULT: dict(values)}}

    def samplers(self) -> dict[str, Sampler]:
        """Level name -> sampler, top level first."""
        return {n: c.build() for n, c in self.level_choices(self.network()).items()}

    def identity(self) -> dict[str, Any]:
        return {
            "stream_version": self.stream_version,
            "weights": load_weights(self.weights).fingerprint.hex(),
            **{name: choice.identity() for name, choice in self.choices.items()},
        }

    def _refinement(self) -> EncoderRefinement | None:
        if not self.options.refinement_steps:
            return None
        from toolkit.entropy_model.refinement import EncoderRefinement

        objective = load_weights(self.weights).objective
        return EncoderRefinement(
            self.options.refinement_steps, objective, self.options.seed, self.device
        )

    def _ladder(self, network: LadderNetwork, rgb: Pixels, point: float) -> EncodeLadder:
        return network.encode(rgb, _rate(point), self._refinement())

    # -- what coding could be ----------------------------------------------------

    def targets(self, pixels: Pixels, point: float) -> list[Target]:
        """Of each level, top first, each given a plain sample of those above."""
        from toolkit.codec.base import as_rgb

        return self._sampled(as_rgb(pixels), point)[0]

    def _sampled(self, rgb: Pixels, point: float) -> tuple[list[Target], Pixels]:
        rates = self._rates(self.weights, _rate(point))
        return sample_ladder(self._ladder(self.network(), rgb, point), self.options.seed, rates)

    def _rates(self, weights: Path, rate: float) -> RateWalk | None:
        """What guesses the rates of a file's levels, where the weights have it."""
        predictor = load_weights(weights).rates
        return predictor.begin(rate) if predictor else None

    def theoretical_rgb(self, rgb: Pixels, point: float) -> Theoretical:
        targets, shown = self._sampled(rgb, point)
        return Theoretical(theoretical_bits(targets), shown)

    def latent_levels(self, pixels: Pixels, point: float) -> list[LatentLevel]:
        from toolkit.codec.base import as_rgb

        network, rgb = self.network(), as_rgb(pixels)
        return network.levels(rgb, _rate(point), self.options.seed, self._refinement())

    # -- coding ------------------------------------------------------------------

    def memory(self, height: int, width: int, *, encoding: bool = False) -> int:
        refined = self.options.refinement_steps > 0
        return self.network().memory(height, width, encoding=encoding, refined=refined)

    @property
    def fits_bytes(self) -> bool:
        """Whether the last level's sampler can fill a budget."""
        return isinstance(list(self.samplers().values())[-1], FitsBytes)

    def encode_rgb(self, rgb: Pixels, point: float, room: Room | None = None) -> Payload:
        check_memory(rgb.shape[0], rgb.shape[1], partial(self.memory, encoding=True))
        network = self.network()
        choices = self.level_choices(network)
        samplers = {name: choice.build() for name, choice in choices.items()}
        payload_of = partial(self._payload, list(choices.values()), point)
        worth: float | None = LEAST_BITS
        if room is not None:
            samplers = fill(samplers, lambda streams: room(payload_of(list(streams.values()))))
            worth = None  # a level that gets what others leave is coded, whatever it holds
        ladder = self._ladder(network, rgb, point)
        rates = self._rates(self.weights, _rate(point))
        coded = encode_ladder(ladder, samplers, self.options.seed, worth, rates)
        streams = [None if level.skipped else level.coded.data for level in coded.levels]
        payload = payload_of(streams)
        parts: dict[str, float] = {}
        for level in coded.levels:
            parts[f"{level.name}.side"] = side = float(level.coded.side_bits)
            parts[level.name] = 8.0 * len(level.coded.data) - side
        return replace(
            payload,
            parts=parts,
            show=coded.show,
            kl_bits={level.name: level.kl_bits for level in coded.levels},
            coder_seconds=coded.coder_seconds,
        )

    def _payload(
        self, choices: Sequence[SamplerChoice], point: float, data: Sequence[bytes | None]
    ) -> Payload:
        parameters, stream = pack_table(point, self.options.seed, choices, data)
        return Payload(parameters, (stream,), load_weights(self.weights).fingerprint)

    def describe(self, container: Container) -> dict[str, Any]:
        table = read_table(self.plugins, container)
        told: dict[str, Any] = {"rate": table.rate, "seed": table.seed}
        for name, level in zip(names_of(len(table.levels)), table.levels, strict=True):
            size = 0 if level.data is None else len(level.data)
            told[name] = {"bytes": size, **level.choice.config()}
        known = weights_of_fingerprint(container.fingerprint or b"", self.model.weights_folder)
        told["installed weights"] = known.stem if known else "none that fit"
        return told

    def decode_rgb(self, container: Container, settings: DecodeSettings) -> Decoded:
        from toolkit.entropy_model.network import load_network

        own, folder = self.options.weights, self.model.weights_folder
        weights = weights_of_file(container, settings, own, folder)
        device = self.device if settings.device is None else resolve_device(settings.device)
        network = load_network(self.model, weights.path, settings.precision, device=device)
        check_memory(container.height, container.width, network.memory)
        table, depth = read_table(self.plugins, container, settings.partial), network.model.depth
        there = len(table.levels)
        if there > depth or (there < depth and not settings.partial):
            raise BadStream(f"codec '{self.spec.name}': {depth} levels expected, {there} there")
        shown = min(there, depth if settings.levels is None else settings.levels)
        levels = dict(zip(names_of(depth), table.levels, strict=False))
        ladder = network.decode(container.height, container.width, table.rate, shown)
        samplers = {name: level.choice.build() for name, level in levels.items()}
        streams = {name: level.data for name, level in levels.items()}
        rates = self._rates(weights.path, table.rate)
        rgb, seconds = decode_ladder(ladder, samplers, streams, table.seed, rates)
        return Decoded(rgb, seconds, (shown, depth))


def _rate(point: float) -> float:
    """The rate as the file will say it."""
    return round(point * RATE_STEPS) / RATE_STEPS
