"""A codec under test."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.codec.base import Codec, Encoded, mode_of
from toolkit.errors import InputError
from toolkit.testing.pictures import picture
from toolkit.testing.subject import ConformanceError, described

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels


class CodecSubject:
    """A codec under test: every call is checked for what any call must keep."""

    def __init__(self, codec: Codec, seed: int) -> None:
        self.codec, self.seed = codec, seed
        parameter = codec.spec.rate_parameter
        low, high = parameter.low, parameter.high
        middle = (low + high) / 2
        self.points = (low, round(middle) if parameter.integer else middle, high)

    def make(self) -> Codec:
        """Another codec, made as this one was."""
        return type(self.codec)(self.codec.spec, self.codec.options, self.codec.plugins)

    def picture(self, height: int = 64, width: int = 64, channels: int = 3) -> Pixels:
        return picture(height, width, channels, self.seed)

    def encode(self, pixels: Pixels, point: float, codec: Codec | None = None) -> Encoded:
        """The picture coded. Raises InputError where the codec refuses it."""
        what = f"{label_of(pixels)} at {self.codec.spec.rate_parameter.name} {point:g}"
        given = pixels.copy()
        given.flags.writeable = False
        try:
            encoded = (codec or self.make()).encode(given, point)
        except InputError:
            raise
        except Exception as error:
            raise ConformanceError(
                "encoding", f"{what}: encode raised {described(error)}"
            ) from error
        if not (isinstance(encoded, Encoded) and isinstance(encoded.data, bytes)):
            raise ConformanceError("encoding", f"{what}: encode must return an Encoded with bytes")
        _check_parts(encoded, what)
        return encoded

    def decode(self, data: bytes, pixels: Pixels) -> Pixels:
        """What intact ``data``, the file of ``pixels``, decodes to, by a codec of its own."""
        what = label_of(pixels)
        try:
            shown = self.make().decode(data).pixels
        except Exception as error:
            raise ConformanceError(
                "round trip", f"{what}: decode raised {described(error)}"
            ) from error
        check_pixels(shown, "round trip", what)
        expected = pixels.shape
        if expected[2] == 1 and shown.shape[2] == 3:  # a format that has no gray
            expected = (*expected[:2], 3)
        if shown.shape != expected:
            raise ConformanceError(
                "round trip", f"{what}: decodes to shape {shown.shape}, not {pixels.shape}"
            )
        return shown

    def coded(self) -> tuple[Pixels, Encoded]:
        """An RGB picture of 64x64 at the middle point."""
        pixels = self.picture()
        return pixels, self.encode(pixels, self.points[1])


def label_of(pixels: Pixels) -> str:
    return f"{mode_of(pixels)} {pixels.shape[1]}x{pixels.shape[0]}"


def check_pixels(shown: Any, check: str, what: str) -> None:
    if not isinstance(shown, np.ndarray) or shown.dtype != np.uint8:
        kind = getattr(shown, "dtype", type(shown).__name__)
        raise ConformanceError(check, f"{what}: pixels must be a uint8 array, not {kind}")
    if shown.ndim != 3 or shown.shape[2] not in (1, 3, 4):
        raise ConformanceError(check, f"{what}: pixels of shape {shown.shape}, not (H, W, C)")


def _check_parts(encoded: Encoded, what: str) -> None:
    bits = 8 * len(encoded.data)
    for name, value in {**encoded.parts, **encoded.kl_bits}.items():
        if not (math.isfinite(value) and value >= 0):
            raise ConformanceError("parts", f"{what}: '{name}' has {value} bits")
    if encoded.parts and abs(sum(encoded.parts.values()) - bits) > 0.5:
        raise ConformanceError(
            "parts",
            f"{what}: they add up to {sum(encoded.parts.values()):g} bits, the file has {bits}",
        )
