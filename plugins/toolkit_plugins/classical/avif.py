"""AVIF, by libavif: libaom encodes, dav1d decodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import PIL
from msgspec import Meta
from PIL import features

from toolkit.options import Options
from toolkit_plugins.classical.pillow import PillowCodec

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels


class AvifOptions(Options, frozen=True):
    """8 bits a sample, full range, BT.601 matrix: libavif's defaults."""

    chroma: Literal["4:4:4", "4:2:2", "4:2:0"] = "4:4:4"
    """Chroma subsampling."""
    effort: Annotated[int, Meta(ge=0, le=10)] = 4
    """10 less libaom's speed."""
    tune: Literal["default", "psnr", "ssim"] = "default"
    """What libaom optimises; libavif's own choice is for the eye."""


class Avif(PillowCodec):
    """Files: ``.avif``; the rate parameter is libavif's quality. Gray is coded as 4:0:0."""

    options_class = AvifOptions
    format = "AVIF"
    carries = frozenset({"exif", "icc"})

    def parameters(self, pixels: Pixels, point: float) -> dict[str, Any]:
        gray = pixels.shape[2] == 1
        tune = self.options.tune
        return {
            "quality": round(point),
            "subsampling": "4:0:0" if gray else self.options.chroma,
            "speed": 10 - self.options.effort,
            # more threads mean tiles, hence other bytes
            "max_threads": 1,
            "autotiling": False,
            "codec": "aom",
            "advanced": {} if tune == "default" else {"tune": tune},
        }

    def identity(self) -> dict[str, Any]:
        from PIL import _avif

        return {
            "pillow": PIL.__version__,
            "libavif": features.version("avif"),
            "codecs": _avif.codec_versions(),
        }
