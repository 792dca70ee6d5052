"""The latents of a hyperprior model coded in three ways: rounded, dithered, or sampled.

With v = y - mean, scale s = p(y | z)'s, all in steps of the quantizer, what is sent is

``quantized``
    k = round(v), y_hat = mean + k. Its error depends on v.
``dithered``
    k = round(v - u), y_hat = mean + k + u, u uniform on (-1/2, 1/2) and known to both sides. Its
    error is uniform whatever v is: the noise that such models are trained with (universal
    quantization: Ziv 1985; Agustsson and Theis 2020, arXiv:2006.09952).
``sampled``
    a coded sample of N(y, w^2), as in Flamich 2019, by any of the coded samplers. The noise has
    the variance of the uniform one by default, w^2 = 1/12. The proposal is N(mean, s^2 + w^2): what
    the model says of y with this noise added.

z is rounded and coded by its factorized prior in all three.
"""

from __future__ import annotations

import math
import struct
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from msgspec import Meta, field

from toolkit.codec.base import Decoded, DecodeSettings, Theoretical, as_rgb
from toolkit.codec.container_codec import ContainerCodec, Payload, Room
from toolkit.errors import InputError, UsageError
from toolkit.format.container import BadStream, Container, OtherModel, Stream
from toolkit.format.limits import check_memory
from toolkit.options import Options
from toolkit.sampling.choice import SamplerChoice, pack_choice, read_choice
from toolkit.sampling.ladder import Target, encode_ladder, sample_ladder, theoretical_bits
from toolkit.sampling.randomness import SharedRandom
from toolkit_plugins.hyperprior.coder import (
    LARGEST_SYMBOL,
    Floats,
    decode_gaussian,
    decode_hyper,
    encode_gaussian,
    encode_hyper,
    parameter_hash,
)
from toolkit_plugins.hyperprior.gaussian import GaussianModel, Prior
from toolkit_plugins.hyperprior.parameter_check import HASH_BYTES, refuse_mismatch

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels
    from toolkit.sampling.contract import Array, Sampler
    from toolkit.sampling.ladder import EncodeLadder
    from toolkit_plugins.hyperprior.gaussian import Latents

CODINGS = ("quantized", "dithered", "sampled")
UNIFORM_NOISE = 12**-0.5
_PROCESS = 2**29
"""Bytes of a process with its libraries and weights."""
_HEAD = struct.Struct(f"<BBff{HASH_BYTES}s")  # coding, seed, width, point, hash


class LatentOptions(Options, frozen=True):
    """How latents are coded."""

    coding: Literal["quantized", "dithered", "sampled"] = "quantized"
    """``quantized``: rounded and entropy-coded. ``dithered``: rounded after uniform noise that the
    decoder shares was added, entropy-coded, the noise subtracted. ``sampled``: a sample around
    each latent, by ``sampler``."""
    sampler: dict[str, Any] = field(default_factory=lambda: {"sampler": "greedy"})
    """With ``sampled``: ``sampler`` names it, the rest are its options."""
    width: Annotated[float, Meta(gt=0, le=16)] = UNIFORM_NOISE
    """With ``sampled``: standard deviation of the posterior in steps of the quantizer."""
    seed: Annotated[int, Meta(ge=0, le=255)] = 0
    """Of the shared random numbers."""


@dataclass(frozen=True)
class Head:
    """The parameters in a file."""

    coding: int
    seed: int
    width: float
    point: float
    digest: bytes


class LatentCodec(ContainerCodec):
    """Base of codecs that code the latents of a ``GaussianModel``."""

    options_class = LatentOptions
    pixel_bytes: ClassVar[tuple[int, int]] = (600, 520)
    """About, from above, what a process takes for each pixel to code and to decode, where the
    networks see the whole picture at once."""

    @abstractmethod
    def model(self, point: float) -> GaussianModel:
        """The network at a rate."""

    def preamble(self) -> bytes:
        """What the codec itself writes before the common parameters."""
        return b""

    @abstractmethod
    def model_of_file(
        self, container: Container, point: float, settings: DecodeSettings
    ) -> GaussianModel:
        """The network that decodes a file, by what the file says. Raises a ``BadFile``."""

    def identity(self) -> dict[str, Any]:
        known: dict[str, Any] = {"stream_version": self.stream_version}
        if self.options.coding == "sampled":
            known["sampler"] = self.choice().identity()
        return known

    def choice(self) -> SamplerChoice:
        """The sampler. Raises UsageError for a name or options that aren't right."""
        return SamplerChoice.from_options(self.plugins, self.options.sampler, "sampler")

    # -- encoding --------------------------------------------------------------

    def memory(self, height: int, width: int, *, encoding: bool = False) -> int:
        encoded, decoded = self.pixel_bytes
        return _PROCESS + (encoded if encoding else decoded) * height * width

    def encode_rgb(self, rgb: Pixels, point: float, room: Room | None = None) -> Payload:
        o, point = self.options, float(np.float32(point))
        check_memory(rgb.shape[0], rgb.shape[1], partial(self.memory, encoding=True))
        model = self.model(point)
        latents, work = self._work(model, rgb)
        z = encode_hyper(latents.z, model.tables)
        coded = self._encode_y(work, latents.y)
        width = o.width if o.coding == "sampled" else 0.0
        digest = parameter_hash(model.tables, coded.indices)
        head = _HEAD.pack(CODINGS.index(o.coding), o.seed, width, point, digest)
        return Payload(
            self.preamble() + head,
            (Stream("z", z), Stream(coded.name, coded.data)),
            model.fingerprint,
            parts={"z": 8.0 * len(z), "y": 8.0 * len(coded.data)},
            show=coded.show,
            kl_bits=coded.kl_bits,
            coder_seconds=coded.seconds,
        )

    def _work(self, model: GaussianModel, rgb: Pixels) -> tuple[Latents, _Work]:
        latents = model.latents(rgb)
        prior = model.prior(latents.z, *rgb.shape[:2])
        if not all(np.isfinite(t).all() for t in (latents.y, prior.mean, prior.scale)):
            raise InputError("these weights can't code this picture: latents that aren't finite")
        y = self.refine(model, rgb, latents.y, prior)
        return replace(latents, y=y), _Work(model, prior, *rgb.shape[:2])

    def refine(self, model: GaussianModel, rgb: Pixels, y: Floats, prior: Prior) -> Floats:
        """y, (C, h, w), moved for this one picture before it is coded; here it stays."""
        return y

    def _encode_y(self, work: _Work, y: Floats) -> _CodedY:
        o = self.options
        if o.coding == "sampled":
            return self._encode_sample(work, y)
        dither = self.dither(y.shape)
        symbols = np.rint(y - work.prior.mean - dither)
        symbols = np.clip(symbols, -LARGEST_SYMBOL, LARGEST_SYMBOL).astype(np.int32)
        table = work.model.scales
        indices = table.indices(work.prior.scale)
        start = time.perf_counter()
        data = encode_gaussian(symbols, dither, table.scales[indices])
        seconds = time.perf_counter() - start
        show = partial(work.picture, work.prior.mean + symbols + dither)
        return _CodedY("y", data, show, indices, {}, seconds)

    def dither(self, shape: tuple[int, ...]) -> Floats:
        """What an encoder adds to symbols of a shape (C, h, w): nothing unless asked to."""
        o = self.options
        return _dither(o.seed, shape) if o.coding == "dithered" else np.zeros(())

    def _encode_sample(self, work: _Work, y: Floats) -> _CodedY:
        choice = self.choice()
        ladder = work.ladder(y, _single(self.options.width))
        coded = encode_ladder(ladder, {"y": choice.build()}, self.options.seed)
        (level,) = coded.levels
        data = pack_choice(choice) + level.coded.data
        kl = {"y": level.kl_bits}
        name = "y" + choice.spec.tag
        return _CodedY(name, data, coded.show, None, kl, coded.coder_seconds)

    # -- what coding could be ----------------------------------------------------

    def theoretical_rgb(self, rgb: Pixels, point: float) -> Theoretical | None:
        """Of y; z, which is rounded, counts with the bits of its stream."""
        if self.options.coding != "sampled":
            return None
        model = self.model(float(np.float32(point)))
        latents, work = self._work(model, rgb)
        ladder = work.ladder(latents.y, _single(self.options.width))
        targets, sampled = sample_ladder(ladder, self.options.seed)
        bits = theoretical_bits(targets) + 8 * len(encode_hyper(latents.z, model.tables))
        return Theoretical(bits, sampled)

    def targets(self, pixels: Pixels, point: float) -> list[Target]:
        """The one level, y, that is sent as a sample. Raises UsageError where none is."""
        self._require_samples()
        latents, work = self._work(self.model(float(np.float32(point))), as_rgb(pixels))
        return [next(work.ladder(latents.y, _single(self.options.width)))]

    def sampler_names(self) -> list[str]:
        """The sampler of y, if there is one."""
        return [self.choice().spec.name] if self.options.coding == "sampled" else []

    def options_with_sampler(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The options to change so that y is coded by this sampler."""
        return {"coding": "sampled", "sampler": dict(values)}

    def samplers(self) -> dict[str, Sampler]:
        """The sampler of y. Raises UsageError where no sample is sent."""
        self._require_samples()
        return {"y": self.choice().build()}

    def _require_samples(self) -> None:
        if self.options.coding != "sampled":
            raise UsageError(
                f"codec '{self.spec.name}' sends samples only with -o coding=sampled, not with "
                f"coding {self.options.coding}"
            )

    # -- decoding --------------------------------------------------------------

    def decode_rgb(self, container: Container, settings: DecodeSettings) -> Decoded:
        head = self.head(container)
        check_memory(container.height, container.width, self.memory)
        model = self.model_of_file(container, head.point, settings)
        if container.fingerprint != model.fingerprint:
            raise OtherModel(
                f"the file was made with weights {(container.fingerprint or b'').hex()}, those "
                f"at hand are {model.fingerprint.hex()}: name the right file with --weights"
            )
        height, width = container.height, container.width
        start = time.perf_counter()
        y = self._decode_y(container, head, model)
        seconds = time.perf_counter() - start
        try:
            rgb = model.picture(y, height, width, settings.precision, settings.threads or 1)
        except ValueError as error:
            raise BadStream(str(error)) from None
        return Decoded(rgb, seconds)

    def head(self, container: Container) -> Head:
        """The parameters of a file of this codec. Raises BadStream for what no encoder writes."""
        name, before = self.spec.name, len(self.preamble())
        if len(container.parameters) != before + _HEAD.size:
            raise BadStream(f"codec '{name}': parameters of the wrong size")
        head = Head(*_HEAD.unpack(container.parameters[before:]))
        parameter = self.spec.rate_parameter
        good = head.coding < len(CODINGS) and parameter.low <= head.point <= parameter.high
        if good and CODINGS[head.coding] == "sampled":
            good = 0 < head.width <= 16
        names = [stream.name for stream in container.streams]
        if not good or len(names) != 2 or names[0] != "z":
            raise BadStream(f"codec '{name}': parameters or streams that no encoder writes")
        return head

    def _decode_y(self, container: Container, head: Head, model: GaussianModel) -> Floats:
        height, width = container.height, container.width
        sampled = CODINGS[head.coding] == "sampled"
        if sampled:
            refuse_mismatch(parameter_hash(model.tables, None), head.digest)
        shape = model.hyper_shape(height, width)
        z = decode_hyper(container.stream("z"), shape, model.tables)
        prior = model.prior(z, height, width)
        stream = container.streams[1]
        if sampled:
            choice, data = read_choice(self.plugins, stream.name[1:], stream.data)
            random = SharedRandom(head.seed, 0)
            c = choice.build().decode(data, prior.mean.shape, random)  # type: ignore[arg-type]
            return _unstandardised(prior, head.width, c)
        indices = model.scales.indices(prior.scale)
        refuse_mismatch(parameter_hash(model.tables, indices), head.digest)
        dithered = CODINGS[head.coding] == "dithered"
        dither = _dither(head.seed, prior.mean.shape) if dithered else np.zeros(())
        symbols = decode_gaussian(container.stream("y"), dither, model.scales.scales[indices])
        return prior.mean + symbols + dither


@dataclass(frozen=True)
class _Work:
    """A picture whose prior is known."""

    model: GaussianModel
    prior: Prior
    height: int
    width: int

    def picture(self, y: Floats) -> Pixels:
        try:
            return self.model.picture(y, self.height, self.width)
        except ValueError as error:
            raise InputError(f"these weights can't code this picture: {error}") from None

    def ladder(self, y: Floats, width: float) -> EncodeLadder:
        """The one level y: its posterior N(y, width^2) in units of the proposal."""
        spread = _spread(self.prior, width)
        d = ((y - self.prior.mean) / spread).astype(np.float32)
        c = yield Target("y", d, (width / spread).astype(np.float32))
        return partial(self.picture, _unstandardised(self.prior, width, c))


@dataclass(frozen=True)
class _CodedY:
    name: str
    data: bytes
    show: Callable[[], Pixels]
    indices: Any
    kl_bits: dict[str, float]
    seconds: float


def _spread(prior: Prior, width: float) -> Floats:
    """Standard deviation of the proposal: what the model expects of y, and the noise."""
    return np.sqrt(np.square(np.maximum(prior.scale, 0)) + width * width)


def _unstandardised(prior: Prior, width: float, c: Array) -> Floats:
    return prior.mean + _spread(prior, width) * c.astype(np.float64)


def _single(width: float) -> float:
    """The width as the file will say it."""
    return float(np.float32(width))


def _dither(seed: int, shape: tuple[int, ...]) -> Floats:
    """Shared uniform numbers on (-1/2, 1/2), odd multiples of 2^-17, shaped (C, H, W)."""
    rows, width = shape[0], math.prod(shape[1:])
    words = SharedRandom(seed, 0).words(0, np.arange(rows), width) >> np.uint32(16)
    uniform: Floats = (words.astype(np.float64) + 0.5) / 65536 - 0.5
    return uniform.reshape(shape)
