"""CompressAI's quantized codecs, as ``.qf`` files."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from toolkit.codec.base import Decoded, DecodeSettings
from toolkit.codec.container_codec import ContainerCodec, Payload, Room
from toolkit.errors import InputError, MissingError, ResourceError, UsageError
from toolkit.format.container import BadStream, Container, OtherModel, Stream
from toolkit.options import Options
from toolkit_plugins.compressai.checkpoints import (
    AUTOREGRESSIVE,
    VARIABLE_RATE,
    Source,
    fetch,
    load_network,
    locate,
    sources,
    what_codes,
)
from toolkit_plugins.compressai.rans import compress, multiple, stream_count
from toolkit_plugins.compressai.remote import Job
from toolkit_plugins.compressai.sandbox import CallFailed, Sandbox, limits_of
from toolkit_plugins.hyperprior.images import to_network
from toolkit_plugins.hyperprior.parameter_check import HASH_BYTES, Mismatch

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels
    from toolkit.plugin.specs import CodecSpec

METRICS: tuple[Literal["mse", "ms-ssim"], ...] = ("mse", "ms-ssim")
STREAMS = ("y", "z")
_PARAMETERS = struct.Struct(f"<Bf{2 * HASH_BYTES}s")  # metric, quality, hashes
_RAISED_AGAIN: dict[str, type[Exception]] = {
    error.__name__: error
    for error in (Mismatch, OtherModel, BadStream, MissingError, InputError, UsageError)
} | {"MemoryError": ResourceError}


class QuantizedOptions(Options, frozen=True):
    """Options of CompressAI's codecs."""

    metric: Literal["mse", "ms-ssim"] = "mse"
    """What the zoo's weights were trained for."""
    weights: str = ""
    """A file (.safetensors, or one of CompressAI's checkpoints) or its URL, ``{quality}`` in it
    standing for the quality; empty: CompressAI's zoo. Encoding fetches what isn't here."""
    sha256: str = ""
    """What the SHA-256 of that file must begin with."""


@cache
def sandbox() -> Sandbox:
    """The process in which this one has files decoded."""
    return Sandbox("toolkit_plugins.compressai.remote")


class QuantizedCodec(ContainerCodec):
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
        fetch(self.source, points)

    def identity(self) -> dict[str, Any]:
        every = sources(self.source, self.spec.rate_parameter.low, self.spec.rate_parameter.high)
        return {"stream_version": self.stream_version, **what_codes(every)}

    # -- coding ----------------------------------------------------------------

    def encode_rgb(self, rgb: Pixels, point: float, room: Room | None = None) -> Payload:
        point = float(np.float32(point))
        network = load_network(self.source(point))
        coded = compress(network, to_network(rgb, multiple(self.spec.name)), point)
        metric = METRICS.index(self.options.metric)
        return Payload(
            _PARAMETERS.pack(metric, point, coded.digest),
            tuple(Stream(n, s) for n, s in zip(STREAMS, coded.strings, strict=False)),
            network.fingerprint,
        )

    def decode_rgb(self, container: Container, settings: DecodeSettings) -> Decoded:
        metric, point, digest = _parameters(self.spec, container)
        names = list(STREAMS[: stream_count(self.spec.name)])
        if [stream.name for stream in container.streams] != names:
            raise BadStream(f"codec '{self.spec.name}': the streams must be {', '.join(names)}")
        job = Job(
            [stream.data for stream in container.streams],
            digest,
            container.fingerprint or b"",
            point,
            container.height,
            container.width,
            settings.precision,
            settings.threads or 1,
        )
        given = settings.weights
        weights = self.options.weights if given is None else str(given)
        options = msgspec.structs.replace(self.options, metric=METRICS[metric], weights=weights)
        codec = QuantizedCodec(self.spec, options, self.plugins)
        locate(codec.source(point), settings.download)  # for the process that decodes
        return Decoded(codec._run(job))

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
    if len(container.parameters) != _PARAMETERS.size:
        raise BadStream(f"codec '{spec.name}': parameters of the wrong size")
    metric, point, digest = _PARAMETERS.unpack(container.parameters)
    known = math.isfinite(point) and spec.rate_parameter.low <= point <= spec.rate_parameter.high
    if spec.name not in VARIABLE_RATE:
        known = known and point == round(point)
    if metric >= len(METRICS) or not known:
        raise BadStream(f"codec '{spec.name}': no such quality or metric")
    return metric, point, digest
