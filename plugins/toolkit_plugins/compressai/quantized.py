"""CompressAI's quantized codecs, as ``.qf`` files."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from toolkit.codec.alpha import decode_alpha, encode_alpha
from toolkit.codec.base import Codec, Decoded, DecodeSettings, Encoded, as_rgb, from_rgb, mode_of
from toolkit.errors import InputError, MissingError, ResourceError, UsageError
from toolkit.format.container import (
    BadStream,
    Container,
    OtherModel,
    Stream,
    parts_in_bits,
    read_container,
    write_container,
)
from toolkit.options import Options
from toolkit_plugins.compressai.agreement import HASH_BYTES, Disagreement
from toolkit_plugins.compressai.checkpoints import (
    AUTOREGRESSIVE,
    VARIABLE_RATE,
    Source,
    load_network,
    locate,
    what_codes,
)
from toolkit_plugins.compressai.images import to_network
from toolkit_plugins.compressai.rans import compress, multiple, stream_count
from toolkit_plugins.compressai.remote import Job
from toolkit_plugins.compressai.sandbox import CallFailed, Sandbox, limits_of

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels
    from toolkit.plugin.loader import Plugins
    from toolkit.plugin.specs import CodecSpec

STREAM_VERSION = 1
METRICS: tuple[Literal["mse", "ms-ssim"], ...] = ("mse", "ms-ssim")
STREAMS = ("y", "z")
ALPHA = "a"
_PARAMETERS = struct.Struct(f"<Bf{2 * HASH_BYTES}s")  # metric, quality, hashes
_RAISED_AGAIN: dict[str, type[Exception]] = {
    error.__name__: error
    for error in (Disagreement, OtherModel, BadStream, MissingError, InputError, UsageError)
} | {"MemoryError": ResourceError}


class QuantizedOptions(Options, frozen=True):
    """Options of CompressAI's codecs."""

    metric: Literal["mse", "ms-ssim"] = "mse"
    """What the zoo's weights were trained for."""
    weights: str = ""
    """A file (.safetensors, or one of CompressAI's checkpoints), ``{quality}`` in its name
    standing for the quality; empty: CompressAI's zoo, downloaded when first needed."""
    sha256: str = ""
    """What the SHA-256 of that file must begin with."""


@cache
def sandbox() -> Sandbox:
    """The process in which this one has files decoded."""
    return Sandbox("toolkit_plugins.compressai.remote")


class QuantizedCodec(Codec):
    """One of CompressAI's architectures; the spec's name is its name there.

    Encoding runs in this process. Decoding, by a range coder that can crash on damaged input,
    runs in a child with limits.
    """

    options_class = QuantizedOptions

    def source(self, point: float) -> Source:
        """Which network codes at this quality."""
        o = self.options
        quality = 0 if self.spec.name in VARIABLE_RATE else round(point)
        return Source(self.spec.name, quality, o.metric, o.weights, o.sha256)

    def require(self, points: Sequence[float]) -> None:
        for point in points:
            locate(self.source(point))

    def identity(self) -> dict[str, Any]:
        points = range(int(self.spec.knob.low), int(self.spec.knob.high) + 1)
        sources = {self.source(float(point)) for point in points}
        return {"stream_version": STREAM_VERSION, **what_codes(sources)}

    # -- coding ----------------------------------------------------------------

    def encode_pixels(self, pixels: Pixels, point: float) -> Encoded:
        point = float(np.float32(point))
        network = load_network(self.source(point))
        image = to_network(as_rgb(pixels), multiple(self.spec.name))
        coded = compress(network, image, point)
        streams = [Stream(n, s) for n, s in zip(STREAMS, coded.strings, strict=False)]
        if pixels.shape[2] == 4:
            streams.append(Stream(ALPHA, encode_alpha(pixels[:, :, 3])))
        metric = METRICS.index(self.options.metric)
        container = Container(
            width=pixels.shape[1],
            height=pixels.shape[0],
            mode=mode_of(pixels),
            codec=self.spec.name,
            stream_version=STREAM_VERSION,
            fingerprint=network.fingerprint,
            parameters=_PARAMETERS.pack(metric, point, coded.digest),
            streams=tuple(streams),
        )
        return Encoded(write_container(container), parts=parts_in_bits(container))

    @classmethod
    def for_file(
        cls,
        spec: CodecSpec,
        container: Container,
        settings: DecodeSettings,
        plugins: Plugins | None = None,
    ) -> QuantizedCodec:
        metric = METRICS[_parameters(spec, container)[0]]
        weights = "" if settings.weights is None else str(settings.weights)
        return cls(spec, QuantizedOptions(metric=metric, weights=weights), plugins)

    def decode(self, data: bytes, settings: DecodeSettings = DecodeSettings()) -> Decoded:
        container = read_container(data)
        _, point, digest = _parameters(self.spec, container)
        names = [*STREAMS[: stream_count(self.spec.name)], *[ALPHA] * (container.mode == "RGBA")]
        if [stream.name for stream in container.streams] != names:
            raise BadStream(f"codec '{self.spec.name}': the streams must be {', '.join(names)}")
        height, width = container.height, container.width
        alpha = None
        if container.mode == "RGBA":
            alpha = decode_alpha(container.stream(ALPHA), height, width)
        job = Job(
            [stream.data for stream in container.streams if stream.name != ALPHA],
            digest,
            container.fingerprint or b"",
            point,
            height,
            width,
            settings.precision,
            settings.threads or 1,
        )
        rgb = self._run(job)
        return Decoded(from_rgb(rgb, container.mode, alpha))

    def _run(self, job: Job) -> Pixels:
        setup = msgspec.msgpack.encode(self.source(job.point))
        length = sum(map(len, job.strings))
        pixel_seconds = 2e-3 if self.spec.name in AUTOREGRESSIVE else 1e-4
        limits = limits_of(length, job.height * job.width, pixel_seconds)
        try:
            data = sandbox().call(setup, msgspec.msgpack.encode(job), limits)
        except CallFailed as failure:
            kind = _RAISED_AGAIN.get(failure.kind, BadStream)
            raise kind(str(failure)) from None
        return np.frombuffer(data, np.uint8).reshape(job.height, job.width, 3)


def _parameters(spec: CodecSpec, container: Container) -> tuple[int, float, bytes]:
    """(metric, quality, hash). Raises a BadFile for what no encoder wrote."""
    if container.codec != spec.name:
        raise BadStream(f"a file of codec '{container.codec}', not of '{spec.name}'")
    if container.stream_version != STREAM_VERSION:
        raise BadStream(f"codec '{spec.name}' has no stream version {container.stream_version}")
    if len(container.parameters) != _PARAMETERS.size:
        raise BadStream(f"codec '{spec.name}': parameters of the wrong size")
    metric, point, digest = _PARAMETERS.unpack(container.parameters)
    known = math.isfinite(point) and spec.knob.low <= point <= spec.knob.high
    if spec.name not in VARIABLE_RATE:
        known = known and point == round(point)
    if metric >= len(METRICS) or not known:
        raise BadStream(f"codec '{spec.name}': no such quality or metric")
    return metric, point, digest
