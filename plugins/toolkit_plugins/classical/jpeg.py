"""JPEG, by libjpeg-turbo."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import PIL
from PIL import features

from toolkit.options import Options
from toolkit_plugins.classical.pillow import PillowCodec

if TYPE_CHECKING:
    from toolkit.codec.base import Metadata, Picture, Pixels


LONGEST_EXIF = 65_527
"""What a segment of a file can hold."""


class JpegOptions(Options, frozen=True):
    """The defaults are Pillow's, with which the published curves of JPEG were made."""

    chroma: Literal["4:4:4", "4:2:2", "4:2:0"] = "4:2:0"
    """Chroma subsampling."""
    optimise: bool = False
    """Huffman tables made for the picture: the same pixels in fewer bits."""
    progressive: bool = False
    """Coefficients in several scans, each with tables of its own: again the same pixels."""


class Jpeg(PillowCodec):
    """Files: ``.jpg``. Gray and RGB; the rate parameter is libjpeg's quality, 1 to 100."""

    options_class = JpegOptions
    format = "JPEG"
    modes = ("L", "RGB")
    carries = frozenset({"exif", "icc", "resolution"})

    def parameters(self, pixels: Pixels, point: float) -> dict[str, Any]:
        return {
            "quality": round(point),
            "subsampling": self.options.chroma,
            "optimize": self.options.optimise,
            "progressive": self.options.progressive,
        }

    def carried(self, picture: Picture) -> Metadata:
        metadata = super().carried(picture)
        if len(metadata.exif) > LONGEST_EXIF:
            return replace(metadata, exif=b"")
        return metadata

    def identity(self) -> dict[str, Any]:
        turbo = features.version_feature("libjpeg_turbo")
        return {"pillow": PIL.__version__, "libjpeg-turbo": turbo or features.version("jpg")}
