"""JPEG, by libjpeg-turbo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from toolkit_plugins.classical.pillow import PillowCodec

from toolkit.options import Options

if TYPE_CHECKING:
    from toolkit.codec import Pixels


class JpegOptions(Options):
    """The defaults are Pillow's, with which the published curves of JPEG were made."""

    chroma: Literal["4:4:4", "4:2:2", "4:2:0"] = "4:2:0"
    optimise: bool = False
    """Huffman tables made for the picture: the same pixels in about 5 % less."""
    progressive: bool = False


class Jpeg(PillowCodec):
    """Files: ``.jpg``. Gray and RGB; the knob is libjpeg's quality, 1 to 100."""

    options_class = JpegOptions
    format = "JPEG"
    library = "jpg"
    modes = ("L", "RGB")

    def parameters(self, pixels: Pixels, point: float) -> dict[str, Any]:
        return {
            "quality": round(point),
            "subsampling": self.options.chroma,
            "optimize": self.options.optimise,
            "progressive": self.options.progressive,
        }
