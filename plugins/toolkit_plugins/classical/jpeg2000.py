"""JPEG 2000, by OpenJPEG."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from msgspec import Meta
from PIL import Image

from toolkit.codec.base import Picture
from toolkit.codec.metadata import metadata_of
from toolkit.options import Options
from toolkit_plugins.classical import colour, jp2
from toolkit_plugins.classical.pillow import PillowCodec, check_size

if TYPE_CHECKING:
    from toolkit.codec.base import Metadata, Pixels

_LIMITED = b"Y'CbCr BT.601 limited"
"""Comment of files whose samples are so: the format itself has no word for it."""


class Jpeg2000Options(Options, frozen=True):
    """Colour is never subsampled: wavelet levels do that."""

    wavelet: Literal["9/7", "5/3"] = "9/7"
    """Of the transform: ``9/7`` is the irreversible one, ``5/3`` the reversible."""
    colour: Literal["ict", "limited"] = "ict"
    """``ict``: the codec's own transform. ``limited``: RGB becomes Y'CbCr of limited range
    before; with wavelet 5/3 that is what FFmpeg did for the published curve, which lies 0.8 to
    1.9 dB lower than the defaults do."""
    resolutions: Annotated[int, Meta(ge=1, le=12)] = 6
    """Resolution levels, one more than wavelet decompositions; fewer in tiny pictures."""


class Jpeg2000(PillowCodec):
    """Files: ``.jp2``. The rate parameter is the ratio: 8 bits a sample over the rate."""

    options_class = Jpeg2000Options
    format = "JPEG2000"
    library = "jpg_2000"
    carries = frozenset({"exif", "resolution"})

    def _limited(self, pixels: Pixels) -> bool:
        return self.options.colour == "limited" and pixels.shape[2] >= 3

    def parameters(self, pixels: Pixels, point: float) -> dict[str, Any]:
        height, width, channels = pixels.shape
        return {
            "quality_mode": "rates",
            "quality_layers": [point],
            "irreversible": self.options.wavelet == "9/7",
            # without a colour transform RGB costs twice the bits
            "mct": int(channels >= 3 and not self._limited(pixels)),
            "num_resolutions": min(self.options.resolutions, min(height, width).bit_length()),
            "comment": _LIMITED if self._limited(pixels) else None,
        }

    def write(self, picture: Picture, mode: str, point: float) -> bytes:
        pixels, metadata = picture.pixels, picture.metadata
        if self._limited(pixels):
            converted = colour.to_uint8(colour.ycbcr(pixels[:, :, :3], limited=True))
            pixels = np.concatenate([converted, pixels[:, :, 3:]], 2)
        return jp2.with_metadata(super().write(Picture(pixels), mode, point), metadata)

    def read(self, data: bytes) -> tuple[str, Pixels, Metadata]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), "r", [self.format]) as file:
                check_size(self.spec.name, *file.size, data)
                pixels = np.array(file)
                if file.info.get("comment") == _LIMITED and pixels.ndim == 3:
                    converted = colour.rgb(pixels[:, :, :3], limited=True)
                    pixels = np.concatenate([converted, pixels[:, :, 3:]], 2)
                found = replace(metadata_of(file), exif=jp2.exif_in(data))
                return file.mode, pixels, found
