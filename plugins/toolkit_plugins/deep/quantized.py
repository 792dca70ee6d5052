"""The deep ladder's quantized twin: the same network, its latents rounded and entropy-coded.

It shows what not quantizing brings, by one number: both are trained on from the same weights for
the same steps. With v = encoder's mean - prior's mean and the prior's scale s, all in steps of the
quantizer, a level sends the integers k = round(v), z = prior's mean + k, coded under N(0, s^2)
integrated over a step. A step is as long as uniform noise needs to have the variance of the
encoder's posterior, learned for each channel and rate: it must not depend on the picture, as
the decoder doesn't know it. Trained with noise in the rate and rounding in the distortion (Minnen
and Singh 2020, arXiv:2007.08739, section 3.3).

The scales come from convolutions of floats, so that a file decodes only where they round alike:
files carry a hash, as the hyperprior's do.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Generator
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from toolkit.codec.base import Decoded, DecodeSettings
from toolkit.codec.container_codec import ContainerCodec, Payload, Room, weights_of_file
from toolkit.entropy_model.base import Level, Size
from toolkit.entropy_model.network import LadderNetwork, load_model
from toolkit.entropy_model.tiles import gathered, whole_tile
from toolkit.entropy_model.walk import Walk
from toolkit.format.container import BadStream, Container, Stream
from toolkit.format.errors import BadHeader
from toolkit.format.limits import check_memory
from toolkit.format.varint import Fields, varint
from toolkit.format.weights import find_weights, load_weights
from toolkit.options import Options
from toolkit.training.objective import TrainingPass
from toolkit_plugins.deep.model import DeepPLN
from toolkit_plugins.hyperprior.codec import scale_table
from toolkit_plugins.hyperprior.coder import LARGEST_SYMBOL, decode_gaussian, encode_gaussian
from toolkit_plugins.hyperprior.model import rounded
from toolkit_plugins.hyperprior.parameter_check import HASH_BYTES, fixed_order, refuse_mismatch

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels
    from toolkit.plugin.specs import EntropyModelSpec
    from toolkit.sampling.contract import Array
    from toolkit_plugins.hyperprior.coder import Floats, Integers

RATE_STEPS = 65535
_HEAD = struct.Struct(f"<H{HASH_BYTES}s")  # rate in units of 1 / RATE_STEPS, hash
_LEAST_PROBABILITY = 1e-9
STREAM = "k"


class QuantizedDeepPLN(DeepPLN):
    """Residual top-down ladder whose latents are rounded."""

    begins_with = ("deep-pln",)

    def step(self, index: int, rate: Tensor) -> Tensor:
        """Length of a step of level ``index``'s quantizer in the network's units, (B, C, 1, 1)."""
        heads = self.top if index == 0 else self._block(index)[0].encoder
        assert heads.log_scale.bias is not None
        bias = heads.log_scale.bias[None, :, None, None].float()
        log_scale = (bias + heads.scale_gain.log(self.blend(rate))).clamp(-12.0, 6.0)
        return math.sqrt(12) * torch.exp(log_scale)

    def steps_per_scale(self, index: int, level: Level, rate: Tensor) -> Tensor:
        """The prior's scale in steps of the quantizer, (B, C, h, w), at least 2^-10."""
        scale = torch.exp(level.prior.log_scale.float()) / self.step(index, rate)
        return scale.clamp_min(2.0**-10)

    def training_pass(self, x: Tensor, rate: Tensor) -> TrainingPass:
        """Bits from latents with uniform noise, pixels from rounded ones."""
        bits: dict[str, Tensor] = {}

        def quantize(index: int, level: Level) -> Tensor:
            assert level.posterior is not None
            scale = self.steps_per_scale(index, level, rate)
            v = level.posterior.mean.float() * scale
            noisy = v + torch.rand_like(v) - 0.5
            bits[self.name(index)] = symbol_bits(noisy, scale).sum((1, 2, 3))
            return rounded(v) / scale

        size = Size(len(x), x.shape[2], x.shape[3])
        return TrainingPass(self.walk(size, rate, self.analyse(x, rate), quantize), bits)


def symbol_bits(v: Tensor, scale: Tensor) -> Tensor:
    """-log2 of N(0, scale^2) integrated over the step around each v."""
    near, far = (v.abs() - 0.5) / scale, (v.abs() + 0.5) / scale
    mass = 0.5 * (torch.erfc(near / math.sqrt(2)) - torch.erfc(far / math.sqrt(2)))
    return -torch.log2(mass.clamp_min(_LEAST_PROBABILITY))


class QuantizedNetwork(LadderNetwork):
    """The twin on pictures. One thread, as the order of sums matters to what it decodes."""

    model: QuantizedDeepPLN

    def quantize(self, pixels: Pixels, rate: float) -> tuple[list[tuple[Integers, Floats]], Pixels]:
        """Symbols and scales of each level, (C, h, w), top first, and the decoder's picture."""
        height, width = pixels.shape[:2]
        walk = self._walk(height, width, self._rate(rate))
        features = self._features(pixels, walk, whole_tile(walk.size))
        levels: list[tuple[Integers, Floats]] = []
        c: Array | None = None
        for _ in range(self.model.depth):
            if c is not None:
                walk.descend(c)
            (d, _) = gathered(
                (tile, (p.mean, p.log_scale)) for tile, p in walk.posteriors(features)
            )
            scale = self._scale(walk)
            v = d[0].double().numpy() * scale
            symbols = np.clip(np.rint(v), -LARGEST_SYMBOL, LARGEST_SYMBOL).astype(np.int32)
            levels.append((symbols, scale))
            c = _in_scales(symbols, scale)
        return levels, self._pixels(walk, c, height, width)

    def restore(self, height: int, width: int, rate: float) -> Generator[Floats, Integers, Pixels]:
        """Scales of each level, top first, for its symbols; in the end the picture."""
        walk = self._walk(height, width, self._rate(rate))
        c: Array | None = None
        for _ in range(self.model.depth):
            if c is not None:
                walk.descend(c)
            scale = self._scale(walk)
            symbols = yield scale
            c = _in_scales(symbols, scale)
        return self._pixels(walk, c, height, width)

    def _scale(self, walk: Walk) -> Floats:
        level = Level(walk.prior())
        with torch.inference_mode():
            scale = self.model.steps_per_scale(walk.index, level, walk.rate)
        return scale[0].double().numpy()


def _in_scales(symbols: Integers, scale: Floats) -> Array:
    """Symbols in units of the prior's scale."""
    c: Array = (symbols / scale).astype(np.float32)
    return c


@cache
def load_quantized(spec: EntropyModelSpec, path: Path) -> QuantizedNetwork:
    """The network of a weights file. Raises as ``load_model`` does."""
    return QuantizedNetwork(load_model(spec, path))


class QuantizedOptions(Options, frozen=True):
    """Options of the twin's codec."""

    weights: str = ""
    """A .safetensors file, or the URL of one (https://, hf://) with its hash; empty: shipped
    weights named as the model."""


class QuantizedLadderCodec(ContainerCodec):
    """Codes the rounded latents of every level, top first, by an ANS coder.

    ::

        parameters    rate (2 bytes), hash of all scales' indices (4), bytes of each level (varints)
        stream "k"    the levels' symbols, one after another; nothing of a level that is all 0
    """

    options_class = QuantizedOptions

    @property
    def weights(self) -> Path:
        """The weights file. Raises MissingError."""
        assert self.spec.model is not None
        name = self.options.weights or self.spec.model.name
        return find_weights(name, self.spec.model.weights_folder)

    def identity(self) -> dict[str, Any]:
        weights = load_weights(self.weights).fingerprint.hex()
        return {"stream_version": self.stream_version, "weights": weights}

    def encode_rgb(self, rgb: Pixels, point: float, room: Room | None = None) -> Payload:
        assert self.spec.model is not None
        steps = round(point * RATE_STEPS)
        with fixed_order():
            network = load_quantized(self.spec.model, self.weights)
            check_memory(rgb.shape[0], rgb.shape[1], partial(network.memory, encoding=True))
            levels, shown = network.quantize(rgb, steps / RATE_STEPS)
        table, digest, parts = scale_table(), hashlib.blake2b(digest_size=HASH_BYTES), {}
        data = []
        for index, (symbols, scale) in enumerate(levels):
            indices = table.indices(scale)
            digest.update(indices.tobytes())
            coded = b""
            if symbols.any():
                coded = encode_gaussian(symbols, np.zeros(()), table.scales[indices])
            data.append(coded)
            parts[network.model.name(index)] = 8.0 * len(coded)
        head = _HEAD.pack(steps, digest.digest())
        return Payload(
            head + b"".join(varint(len(d)) for d in data),
            (Stream(STREAM, b"".join(data)),),
            load_weights(self.weights).fingerprint,
            parts=parts,
            show=lambda: shown,
        )

    def decode_rgb(self, container: Container, settings: DecodeSettings) -> Decoded:
        assert self.spec.model is not None
        folder = self.spec.model.weights_folder
        weights = weights_of_file(container, settings, self.options.weights, folder)
        network = load_quantized(self.spec.model, weights.path)
        check_memory(container.height, container.width, network.memory)
        rate, expected, streams = _streams(container, network.model.depth)
        table, digest = scale_table(), hashlib.blake2b(digest_size=HASH_BYTES)
        with fixed_order():
            ladder = network.restore(container.height, container.width, rate)
            scale = next(ladder)
            for data in streams:
                indices = table.indices(scale)
                digest.update(indices.tobytes())
                symbols = np.zeros(scale.shape, np.int32)
                if data:
                    symbols = decode_gaussian(data, np.zeros(()), table.scales[indices])
                try:
                    scale = ladder.send(symbols)
                except StopIteration as stop:
                    refuse_mismatch(digest.digest(), expected)
                    return Decoded(stop.value)
        raise AssertionError("a ladder has as many levels as its model says")


def _streams(container: Container, depth: int) -> tuple[float, bytes, list[bytes]]:
    """Rate, hash and the data of each level. Raises BadStream."""
    name = f"codec '{container.codec}'"
    if [stream.name for stream in container.streams] != [STREAM]:
        raise BadStream(f"{name}: one stream expected, '{STREAM}'")
    parameters, data = container.parameters, container.streams[0].data
    if len(parameters) < _HEAD.size:
        raise BadStream(f"{name}: parameters of the wrong size")
    steps, digest = _HEAD.unpack_from(parameters)
    fields = Fields(parameters, _HEAD.size, len(parameters))
    try:
        lengths = [fields.number() for _ in range(depth)]
    except BadHeader as error:
        raise BadStream(f"{name}: {error}") from None
    if fields.at != len(parameters) or sum(lengths) != len(data):
        raise BadStream(f"{name}: its parameters don't fit its streams")
    ends = np.cumsum([0, *lengths]).tolist()
    return steps / RATE_STEPS, digest, [data[a:b] for a, b in pairwise(ends)]
