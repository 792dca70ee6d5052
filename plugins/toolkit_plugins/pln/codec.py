"""The PLN codec: pixels to a .qf file and back, its samplers chosen by options."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, field

from toolkit.codec.alpha import decode_alpha, encode_alpha
from toolkit.codec.base import (
    Codec,
    Decoded,
    DecodeSettings,
    Encoded,
    Theoretical,
    as_pixels,
    as_rgb,
    from_rgb,
    mode_of,
)
from toolkit.errors import UsageError
from toolkit.format.container import (
    BadStream,
    Container,
    OtherModel,
    Stream,
    read_container,
    write_container,
)
from toolkit.format.weights import (
    find_weights,
    load_weights,
    weights_for_file,
    weights_of_fingerprint,
)
from toolkit.options import Options
from toolkit.plugin.loader import load_plugins
from toolkit.sampling.choice import SamplerChoice, pack_choice, read_choice
from toolkit.sampling.ladder import decode_ladder, encode_ladder, sample_ladder, theoretical_bits
from toolkit_plugins.pln.budget import fill
from toolkit_plugins.pln.ladder import LEVELS, PLNLadder

if TYPE_CHECKING:
    from toolkit.codec.base import ImageLike, LatentLevel, Pixels
    from toolkit.plugin.loader import Plugins
    from toolkit.plugin.specs import CodecSpec
    from toolkit.sampling.contract import Sampler
    from toolkit.sampling.ladder import EncodeLadder, Target
    from toolkit_plugins.pln.effort import Effort

FOLDER = Path(__file__).parent / "weights"
STREAM_VERSION = 1
RATE_STEPS = 65535
_PARAMETERS = struct.Struct("<HB")  # rate in units of 1 / RATE_STEPS, seed
ALPHA = "a"


class PLNCodecOptions(Options, frozen=True):
    """Options of the ``pln`` codec."""

    weights: str = "pln"
    """Shipped weights by name, or a path to a .safetensors file."""
    level1: dict[str, Any] = field(default_factory=lambda: {"sampler": "greedy"})
    """Sampler of the level nearest the image: ``sampler`` names it, the rest are its options."""
    level2: dict[str, Any] = field(default_factory=lambda: {"sampler": "importance"})
    """Sampler of the upper level."""
    seed: Annotated[int, Meta(ge=0, le=255)] = 0
    """Of the shared random numbers."""
    effort: Annotated[int, Meta(ge=0, le=10000)] = 0
    """Gradient steps that refine the posterior of each picture before it is coded. Encoder
    only: files don't say it, decoders take no longer."""


@cache
def load_model(path: Path, precision: str) -> PLNLadder:
    """The network of a weights file as a ladder. Raises what ``load_weights`` does, and
    UsageError for weights of another model."""
    from toolkit.options import parse_options
    from toolkit_plugins.pln.model import PLN, PLNOptions

    weights = load_weights(path)
    if weights.model != "pln":
        raise UsageError(f"{path}: weights of model '{weights.model}', not of 'pln'")
    model = PLN(parse_options(PLNOptions, weights.options, str(path)))
    try:
        model.load_state_dict(weights.tensors)
    except RuntimeError as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from None
    model = model.eval().requires_grad_(False)
    return PLNLadder(model.double() if precision == "float64" else model, precision)


class PLNCodec(Codec):
    """Codes a sample of each level of the ladder, top first."""

    options_class = PLNCodecOptions

    def __init__(
        self, spec: CodecSpec, options: PLNCodecOptions, plugins: Plugins | None = None
    ) -> None:
        super().__init__(spec, options, plugins)
        self.choices = {
            name: SamplerChoice.from_options(self.plugins, getattr(options, name), name)
            for name in LEVELS
        }

    # -- parts -----------------------------------------------------------------

    @property
    def weights(self) -> Path:
        """The weights file. Raises MissingError."""
        return find_weights(self.options.weights, FOLDER)

    def sampler_names(self) -> list[str]:
        """Names of the samplers, top level first."""
        return [choice.spec.name for choice in self.choices.values()]

    def options_with_sampler(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The options to change so that every level is coded by one sampler."""
        return {level: dict(values) for level in LEVELS}

    def samplers(self) -> dict[str, Sampler]:
        """Level name -> sampler."""
        return {name: choice.build() for name, choice in self.choices.items()}

    def identity(self) -> dict[str, Any]:
        return {
            "stream_version": STREAM_VERSION,
            "weights": load_weights(self.weights).fingerprint.hex(),
            **{name: choice.identity() for name, choice in self.choices.items()},
        }

    def targets(self, pixels: Pixels, point: float) -> list[tuple[str, Any, Any]]:
        """(level, d, r) of each level, top first, each given a plain sample of those above."""
        return [(t.name, t.d, t.r) for t in self._sampled(pixels, point)[0]]

    def _sampled(self, pixels: Pixels, point: float) -> tuple[list[Target], Pixels]:
        return sample_ladder(self._ladder(pixels, point), self.options.seed)

    def _ladder(self, pixels: Pixels, point: float) -> EncodeLadder:
        model = load_model(self.weights, "float32")
        return model.encode(as_rgb(pixels), _rate(point), self._effort())

    def _effort(self) -> Effort | None:
        if not self.options.effort:
            return None
        from toolkit_plugins.pln.effort import Effort

        objective = load_weights(self.weights).objective
        return Effort(self.options.effort, objective, self.options.seed)

    def latent_levels(self, pixels: Pixels, point: float) -> list[LatentLevel]:
        ladder = load_model(self.weights, "float32")
        return ladder.levels(as_rgb(pixels), _rate(point), self.options.seed, self._effort())

    # -- coding ----------------------------------------------------------------

    def encode_pixels(self, pixels: Pixels, point: float) -> Encoded:
        return self._encode(pixels, point, None)

    def encode_within(self, image: ImageLike, point: float, max_bytes: int) -> Encoded:
        """As ``encode``, the rates of level 1 scaled so that the file has ``max_bytes`` bytes, or
        as few less as can be, where its sampler can (the trellis)."""
        if not hasattr(self.samplers()["level1"], "encode_within"):
            return super().encode_within(image, point, max_bytes)
        return self._encode(as_pixels(image), point, max_bytes)

    def _encode(self, pixels: Pixels, point: float, max_bytes: int | None) -> Encoded:
        heads = {name: pack_choice(choice) for name, choice in self.choices.items()}
        alpha = encode_alpha(pixels[:, :, 3]) if pixels.shape[2] == 4 else None

        def file_of(level2: bytes, level1: bytes) -> bytes:
            parts = {"level2": level2, "level1": level1}
            streams = [
                Stream(_stream_name(name, self.choices[name]), heads[name] + parts[name])
                for name in LEVELS
            ]
            streams += [Stream(ALPHA, alpha)] if alpha is not None else []
            return self._write(pixels, point, streams)

        samplers = self.samplers()
        if max_bytes is not None:
            samplers = fill(samplers, file_of, max_bytes)
        coded = encode_ladder(self._ladder(pixels, point), samplers, self.options.seed)
        data = file_of(*(rung.coded.data for rung in coded.rungs))
        streams = [len(heads[r.name]) + len(r.coded.data) for r in coded.rungs]
        streams += [len(alpha)] if alpha is not None else []
        parts = {"header": 8.0 * (len(data) - sum(streams))}
        for rung in coded.rungs:
            side = 8.0 * len(heads[rung.name]) + rung.coded.side_bits
            parts[f"{rung.name}.side"] = side
            parts[rung.name] = 8.0 * (len(heads[rung.name]) + len(rung.coded.data)) - side
        if alpha is not None:
            parts["alpha"] = 8.0 * len(alpha)
        return Encoded(
            data,
            show=lambda: _in_mode(coded.show(), pixels),
            parts=parts,
            kl_bits={rung.name: rung.kl_bits for rung in coded.rungs},
            coder_seconds=coded.coder_seconds,
        )

    def _write(self, pixels: Pixels, point: float, streams: list[Stream]) -> bytes:
        height, width = pixels.shape[:2]
        return write_container(
            Container(
                width=width,
                height=height,
                mode=mode_of(pixels),
                codec=self.spec.name,
                stream_version=STREAM_VERSION,
                fingerprint=load_weights(self.weights).fingerprint,
                parameters=_PARAMETERS.pack(round(point * RATE_STEPS), self.options.seed),
                streams=tuple(streams),
            )
        )

    def theoretical(self, pixels: Pixels, point: float) -> Theoretical:
        targets, rgb = self._sampled(pixels, point)
        return Theoretical(theoretical_bits(targets), _in_mode(rgb, pixels))

    @classmethod
    def describe(cls, container: Container, plugins: Plugins) -> dict[str, Any]:
        if len(container.parameters) != _PARAMETERS.size:
            raise BadStream("codec 'pln': parameters of the wrong size")
        steps, seed = _PARAMETERS.unpack(container.parameters)
        told: dict[str, Any] = {"rate": steps / RATE_STEPS, "seed": seed}
        for name, stream in zip(LEVELS, container.streams, strict=False):
            told[name] = read_choice(plugins, stream.name[1:], stream.data)[0].config()
        known = weights_of_fingerprint(container.fingerprint or b"", FOLDER)
        told["installed weights"] = known.stem if known else "none that fit"
        return told

    @classmethod
    def for_file(
        cls,
        spec: CodecSpec,
        container: Container,
        settings: DecodeSettings,
        plugins: Plugins | None = None,
    ) -> PLNCodec:
        path = weights_for_file(container.fingerprint or b"", settings.weights, FOLDER)
        told = cls.describe(container, plugins or load_plugins())
        levels = {name: told[name] for name in LEVELS if name in told}
        return cls(spec, PLNCodecOptions(weights=str(path), seed=told["seed"], **levels), plugins)

    def decode(self, data: bytes, settings: DecodeSettings = DecodeSettings()) -> Decoded:
        container = read_container(data)
        weights = load_weights(self.weights)
        if container.fingerprint != weights.fingerprint:
            made_with = (container.fingerprint or b"").hex()
            raise OtherModel(
                f"the file was made with weights {made_with}, not with "
                f"{weights.path.name} ({weights.fingerprint.hex()})"
            )
        rate, seed, samplers, streams, alpha = self._unpack(container)
        ladder = load_model(self.weights, settings.precision)
        climb = ladder.decode(container.height, container.width, rate)
        rgb, seconds = decode_ladder(climb, samplers, streams, seed)
        return Decoded(from_rgb(rgb, container.mode, alpha), seconds)

    def _unpack(
        self, container: Container
    ) -> tuple[float, int, dict[str, Sampler], dict[str, bytes], Any]:
        if container.stream_version != STREAM_VERSION:
            raise BadStream(f"codec 'pln' has no stream version {container.stream_version}")
        if len(container.parameters) != _PARAMETERS.size:
            raise BadStream("codec 'pln': parameters of the wrong size")
        steps, seed = _PARAMETERS.unpack(container.parameters)
        wanted = len(LEVELS) + (container.mode == "RGBA")
        if len(container.streams) != wanted:
            raise BadStream(
                f"codec 'pln': {wanted} streams expected, {len(container.streams)} there"
            )
        samplers: dict[str, Sampler] = {}
        streams: dict[str, bytes] = {}
        for name, stream in zip(LEVELS, container.streams, strict=False):
            if stream.name[0] != name[-1]:
                raise BadStream(f"codec 'pln': stream '{stream.name}' stands where {name} should")
            choice, streams[name] = read_choice(self.plugins, stream.name[1:], stream.data)
            samplers[name] = choice.build()
        alpha = None
        if container.mode == "RGBA":
            alpha = decode_alpha(container.streams[-1].data, container.height, container.width)
        return steps / RATE_STEPS, seed, samplers, streams, alpha


def _stream_name(level: str, choice: SamplerChoice) -> str:
    """The level's digit and the sampler's tag."""
    return level[-1] + choice.spec.tag


def _rate(point: float) -> float:
    """The rate as the file will say it."""
    return round(point * RATE_STEPS) / RATE_STEPS


def _in_mode(rgb: Pixels, original: Pixels) -> Pixels:
    alpha = original[:, :, 3] if original.shape[2] == 4 else None
    return from_rgb(rgb, mode_of(original), alpha)
