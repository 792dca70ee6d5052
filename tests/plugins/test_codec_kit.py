"""check_codec: passes what is right, and names what is wrong with codecs broken on purpose."""

from __future__ import annotations

import itertools
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.codec.base import Codec, Decoded, DecodeSettings, Encoded
from toolkit.errors import InputError
from toolkit.format.container import BadStream, Container, read_container, write_container
from toolkit.plugin.loader import load_plugins
from toolkit.plugin.specs import CodecSpec, RateParameter
from toolkit.testing import ConformanceError, check_codec

EXAMPLE = Path(__file__).parents[2] / "examples" / "codec.py"
PLUGINS = load_plugins([EXAMPLE])
BLOCKS = PLUGINS.codec("blocks")
Blocks: Any = BLOCKS.loaded
Pixels = NDArray[np.uint8]
STEP = RateParameter("step", 1, 64, integer=True, more_bits="down")
NOW = DecodeSettings()


class Steps(Codec):
    """A right one with files of its own: multiples of the step, deflated."""

    def encode_pixels(self, pixels: Pixels, point: float) -> Encoded:
        step = int(point)
        values = (pixels.astype(int) + step // 2) // step
        head = b"STEP" + bytes([step]) + np.array(pixels.shape, "<u2").tobytes()
        data = head + zlib.compress(values.astype(np.uint8).tobytes())
        bits = {"header": 8.0 * len(head), "pixels": 8.0 * (len(data) - len(head))}
        return Encoded(data, lambda: self.shown(data), bits)

    def decode(self, data: bytes, settings: DecodeSettings = NOW) -> Decoded:
        return Decoded(self.shown(data))

    def shown(self, data: bytes) -> Pixels:
        try:
            if data[:4] != b"STEP":
                raise ValueError("not a file of steps")
            shape = np.frombuffer(data[5:11], "<u2").astype(int)
            if np.prod(shape) > 2**20 or shape[2] not in (1, 3, 4) or 0 in shape:
                raise ValueError("too large")
            values = np.frombuffer(zlib.decompress(data[11:]), np.uint8).reshape(shape)
        except (ValueError, IndexError, zlib.error) as error:
            raise BadStream(f"steps: {error}") from None
        return np.clip(values.astype(int) * data[4], 0, 255).astype(np.uint8)


def check(cls: type[Codec], **changes: Any) -> None:
    if issubclass(cls, Blocks):
        spec = replace(BLOCKS, factory=f"{__name__}:{cls.__name__}", **changes)
    else:
        values = {"rate_parameter": STEP, "suffix": ".steps", "magic": ((0, b"STEP"),), **changes}
        spec = CodecSpec("steps", "multiples of a step", f"{__name__}:{cls.__name__}", **values)
    check_codec(cls(spec, cls.options_class(), PLUGINS), damaged=40)


def refused(cls: type[Codec], which: str, message: str, **changes: Any) -> None:
    with pytest.raises(ConformanceError, match=message) as error:
        check(cls, **changes)
    assert error.value.check == which


@pytest.mark.parametrize("name", ["jpeg", "webp", "pln-fast"])
def test_built_in_ones_pass(name: str) -> None:
    report = check_codec(name)
    assert report.files >= 8
    assert report.refused_modes == (("RGBA",) if name == "jpeg" else ())
    assert 0 < report.refused < report.damaged
    assert report.checks[-1] == "another process"
    assert str(report).startswith(f"{report.codec}: {report.files} files")


def test_the_quantized_hyperprior_passes() -> None:
    pytest.importorskip("constriction")
    assert check_codec("hyperprior", damaged=20).files == 11


def test_by_descriptor_with_options() -> None:
    assert check_codec(BLOCKS, {"effort": 1}, plugins=PLUGINS).files == 11


def test_a_plugin_whose_file_was_loaded_again_since() -> None:
    load_plugins([EXAMPLE])
    assert check_codec(BLOCKS, plugins=PLUGINS, damaged=8).files == 11


def test_the_right_one_passes() -> None:
    check(Steps)


# -- encoding -----------------------------------------------------------------------------


class Raises(Steps):
    def encode_pixels(self, pixels: Pixels, point: float) -> Encoded:
        raise ZeroDivisionError("step")


class Overwrites(Steps):
    def encode_pixels(self, pixels: Pixels, point: float) -> Encoded:
        pixels //= 2
        return super().encode_pixels(pixels, point)


class NoEncoded(Steps):
    def encode_pixels(self, pixels: Pixels, point: float) -> Encoded:
        return super().encode_pixels(pixels, point).data  # type: ignore[return-value]


class Refuses(Steps):
    def encode_pixels(self, pixels: Pixels, point: float) -> Encoded:
        if pixels.shape[0] < 8:
            raise InputError("too small")
        return super().encode_pixels(pixels, point)


class LosesBits(Steps):
    def encode_pixels(self, pixels: Pixels, point: float) -> Encoded:
        return replace(super().encode_pixels(pixels, point), parts={"pixels": 8.0})


class NegativeBits(Steps):
    def encode_pixels(self, pixels: Pixels, point: float) -> Encoded:
        return replace(super().encode_pixels(pixels, point), kl_bits={"level1": -1.0})


def test_encoding() -> None:
    refused(Raises, "encoding", r"RGB 1x1 at step 32: encode raised ZeroDivisionError \(step\)")
    refused(Overwrites, "encoding", "read-only")
    refused(NoEncoded, "encoding", "must return an Encoded")
    refused(Refuses, "round trip", r"RGB 1x1: encode refuses it: InputError \(too small\)")
    refused(LosesBits, "parts", r"add up to 8 bits, the file has \d+")
    refused(NegativeBits, "parts", "'level1' has -1.0 bits")


# -- decoding -----------------------------------------------------------------------------


class DecoderFails(Steps):
    def decode(self, data: bytes, settings: DecodeSettings = NOW) -> Decoded:
        raise BadStream("steps: no")


class Floats(Steps):
    def decode(self, data: bytes, settings: DecodeSettings = NOW) -> Decoded:
        return Decoded(self.shown(data).astype(np.float32))  # type: ignore[arg-type]


class Flat(Steps):
    def decode(self, data: bytes, settings: DecodeSettings = NOW) -> Decoded:
        return Decoded(self.shown(data)[:, :, 0])


class Crops(Steps):
    def decode(self, data: bytes, settings: DecodeSettings = NOW) -> Decoded:
        return Decoded(self.shown(data)[:16])


class DropsAlpha(Steps):
    def decode(self, data: bytes, settings: DecodeSettings = NOW) -> Decoded:
        return Decoded(self.shown(data)[:, :, :3])


class ShowsTheOriginal(Steps):
    def encode_pixels(self, pixels: Pixels, point: float) -> Encoded:
        return replace(super().encode_pixels(pixels, point), show=lambda: pixels)


def test_round_trips() -> None:
    refused(DecoderFails, "round trip", r"RGB 1x1: decode raised BadStream \(steps: no\)")
    refused(Floats, "round trip", "uint8 array, not float32")
    refused(Flat, "round trip", r"pixels of shape \(1, 1\), not \(H, W, C\)")
    refused(Crops, "round trip", r"RGB 31x17: decodes to shape \(16, 31, 3\), not \(17, 31, 3\)")
    refused(DropsAlpha, "round trip", r"RGBA 1x1: decodes to shape \(1, 1, 3\), not \(1, 1, 4\)")
    refused(ShowsTheOriginal, "reconstruction", "other pixels than the encoder says")


# -- files that nothing tells apart, and what doesn't repeat -------------------------------


class Stranger(Blocks):  # type: ignore[misc]
    def _encode(self, pixels: Pixels, point: float, max_bytes: int | None) -> Encoded:
        encoded = super()._encode(pixels, point, max_bytes)
        container = replace(read_container(encoded.data), codec="other")
        data = write_container(container)
        return replace(encoded, data=data, parts={})

    def check_container(self, container: Container) -> None:
        pass


class Counts(Steps):
    number = itertools.count()

    def encode_pixels(self, pixels: Pixels, point: float) -> Encoded:
        encoded = super().encode_pixels(pixels, point)
        zeros = bytes(next(Counts.number) % 3)
        return replace(encoded, data=encoded.data + zeros, parts={})

    def shown(self, data: bytes) -> Pixels:
        return super().shown(data.rstrip(b"\0"))


class Drifts(Steps):
    calls = 0

    def decode(self, data: bytes, settings: DecodeSettings = NOW) -> Decoded:
        self.calls += 1
        return Decoded(self.shown(data) ^ (self.calls > 1))


class Shares(Steps):
    def encode_pixels(self, pixels: Pixels, point: float) -> Encoded:
        self.pixels = pixels
        time.sleep(0.02)
        return super().encode_pixels(self.pixels, point)


def test_recognition() -> None:
    refused(Steps, "recognition", r"begins with b'STEP.*, which no 'magic'", magic=())
    refused(Steps, "recognition", "no 'magic'", magic=((4, b"STEP"),))
    refused(Stranger, "recognition", "its files name the codec 'other'")


def test_repeatability() -> None:
    refused(Counts, "repeatability", "second encoding gives other bytes")
    refused(Drifts, "repeatability", "second decoding gives other pixels")
    refused(Shares, "threads", "several threads share the codec")


# -- points, direction, size limit ---------------------------------------------------------


class AnyPoint(Steps):
    def check_point(self, point: float) -> None:
        pass

    def encode_pixels(self, pixels: Pixels, point: float) -> Encoded:
        return super().encode_pixels(pixels, 1 + abs(np.nan_to_num(point)))


class AssertsPoint(Steps):
    def check_point(self, point: float) -> None:
        assert 1 <= point <= 64


class Exceeds(Steps):
    def encode_within(self, image: Any, point: float, max_bytes: int) -> Encoded:
        return self.encode(image, 1)


class AlwaysFits(Steps):
    def encode_within(self, image: Any, point: float, max_bytes: int) -> Encoded:
        return self.encode(image, point)


def test_points() -> None:
    refused(AnyPoint, "points", "step 0 is coded, though the descriptor says 1 to 64, whole")
    refused(AssertsPoint, "points", r"step 0: encode raised AssertionError .*not a UsageError")
    upwards = replace(STEP, more_bits="up")
    refused(Steps, "direction", r"step 1 should have fewer bits than 64", rate_parameter=upwards)


def test_size_limits() -> None:
    refused(Exceeds, "size limit", r"a file of \d+ bytes where \d+ were allowed")
    refused(AlwaysFits, "size limit", r"a file of \d+ bytes where 1 was allowed")


# -- damage, identity, another process ------------------------------------------------------


class Trusts(Steps):
    def shown(self, data: bytes) -> Pixels:
        shape = np.frombuffer(data[5:11], "<u2").astype(int)
        return np.frombuffer(zlib.decompress(data[11:]), np.uint8).reshape(shape) * data[4]


class TakesNothing(Steps):
    def shown(self, data: bytes) -> Pixels:
        return super().shown(data) if data else np.zeros((1, 1, 3), np.uint8)


class TrustsStreams(Blocks):  # type: ignore[misc]
    def decode_rgb(self, container: Container, settings: DecodeSettings) -> Decoded:
        zlib.decompress(container.stream("blocks"))
        return super().decode_rgb(container, settings)


class Shrinks(Blocks):  # type: ignore[misc]
    def decode_rgb(self, container: Container, settings: DecodeSettings) -> Decoded:
        try:
            return super().decode_rgb(container, settings)
        except BadStream:
            return Decoded(np.zeros((3, 3, 3), np.uint8))


class BytesIdentity(Steps):
    def identity(self) -> dict[str, Any]:
        return {"weights": b"\x01"}


class NewIdentity(Steps):
    numbers = itertools.count()

    def identity(self) -> dict[str, Any]:
        return {"number": next(NewIdentity.numbers)}


SHIFTS: list[int] = []


class Remembers(Steps):
    """What it does depends on what its process has done."""

    def encode_pixels(self, pixels: Pixels, point: float) -> Encoded:
        SHIFTS[:] = [1]
        return replace(super().encode_pixels(pixels, point), show=None)

    def decode(self, data: bytes, settings: DecodeSettings = NOW) -> Decoded:
        return Decoded(self.shown(data) + np.uint8(sum(SHIFTS)))


class NeedsTheEncoder(Remembers):
    def decode(self, data: bytes, settings: DecodeSettings = NOW) -> Decoded:
        return Decoded(self.shown(data) + np.uint8(SHIFTS[0]))


def test_damage() -> None:
    refused(Trusts, "damaged files", r"no data: decode raised \w+ .*isn't a BadFile")
    refused(TakesNothing, "damaged files", "an empty file is decoded")
    refused(TrustsStreams, "damaged files", "stream 'blocks', no data: decode raised error")
    refused(Shrinks, "damaged files", r"decodes to shape \(3, 3, 3\), not \(64, 64, 3\)")


def test_identity() -> None:
    refused(BytesIdentity, "identity", r"no plain JSON: TypeError")
    refused(NewIdentity, "identity", "different identities")


def test_another_process() -> None:
    class Local(Steps):
        pass

    refused(Remembers, "another process", "decodes the file to other pixels")
    refused(NeedsTheEncoder, "another process", r"it raised IndexError")
    refused(Local, "another process", "define the class at the top of a module")
