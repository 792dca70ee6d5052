"""HEIC, by libheif: x265 encodes, libde265 decodes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pillow_heif

from toolkit.codec.metadata import Metadata
from toolkit.options import Options
from toolkit_plugins.classical.pillow import NativeCodec, check_size

if TYPE_CHECKING:
    from toolkit.codec.base import Picture, Pixels


class HeicOptions(Options, frozen=True):
    """8 bits a sample."""

    chroma: Literal["4:4:4", "4:2:2", "4:2:0"] = "4:4:4"
    """How colour is subsampled; ``4:4:4``: not at all."""
    effort: Literal["ultrafast", "veryfast", "medium", "slow", "slower", "veryslow"] = "slow"
    """x265's preset; ``slow`` is libheif's default."""
    tune: Literal["ssim", "psnr"] = "ssim"
    """What x265 optimises; ``ssim`` is libheif's default."""


class Heic(NativeCodec):
    """Files: ``.heic``; the rate parameter is libheif's quality. Gray is coded as 4:0:0."""

    options_class = HeicOptions
    carries = frozenset({"exif", "icc"})

    def write(self, picture: Picture, mode: str, point: float) -> bytes:
        height, width = picture.pixels.shape[:2]
        file = io.BytesIO()
        settings: dict[str, Any] = {"preset": self.options.effort, "tune": self.options.tune}
        if mode != "L":
            settings["chroma"] = self.options.chroma.replace(":", "")
        image = pillow_heif.from_bytes(mode, (width, height), picture.pixels.tobytes())
        saved = picture.metadata.saved()
        image.info["icc_profile"] = saved.pop("icc_profile", None)
        image.save(file, quality=round(point), enc_params=settings, **saved)
        return file.getvalue()

    def read(self, data: bytes) -> tuple[str, Pixels, Metadata]:
        picture = pillow_heif.open_heif(io.BytesIO(data))
        width, height = picture.size
        check_size(self.spec.name, width, height, data)
        exif, icc = (picture.info.get(name) or b"" for name in ("exif", "icc_profile"))
        found = Metadata(exif.removeprefix(b"Exif\0\0"), icc)
        return picture.mode, np.array(picture), found

    def identity(self) -> dict[str, Any]:
        libraries = pillow_heif.libheif_info()
        return {
            "pillow-heif": pillow_heif.__version__,
            "libheif": libraries["libheif"],
            "encoder": libraries["encoders"].get("x265"),
            "decoders": libraries["decoders"],
        }
