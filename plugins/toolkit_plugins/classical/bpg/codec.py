"""BPG as a codec: by the programs ``bpgenc`` and ``bpgdec``, or by the parts in this folder."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from toolkit.codec.base import mode_of
from toolkit.errors import MissingError
from toolkit.options import Options
from toolkit_plugins.classical.bpg import file, programs
from toolkit_plugins.classical.pillow import NativeCodec, check_size

if TYPE_CHECKING:
    from toolkit.codec.base import Metadata, Picture, Pixels

_PRESETS = (
    "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo",
)  # fmt: skip
"""x265's, by effort from 1 to 9."""


class BpgOptions(Options, frozen=True):
    """8 bits a sample."""

    chroma: Literal["4:4:4", "4:2:0"] = "4:4:4"
    """How colour is subsampled; ``4:4:4``: not at all."""
    colour: Literal["ycbcr", "rgb"] = "ycbcr"
    """``rgb`` codes the three colours as they are; ``chroma`` must be 4:4:4 then."""
    effort: Annotated[int, Meta(ge=1, le=9)] = 8
    """bpgenc's -m; x265's presets from superfast to placebo, 8 being veryslow."""
    encoder: Literal["auto", "bpgenc", "embedded"] = "auto"
    """``auto`` is bpgenc and bpgdec where both are on the PATH, else the embedded encoder."""
    backend: Literal["", "x265", "jctvc"] = ""
    """bpgenc's -e; empty for its default. The embedded encoder is x265."""


class Bpg(NativeCodec):
    """Files: ``.bpg``; the rate parameter is the quantizer, 0 to 51.

    At the same quantizer the embedded encoder makes larger and better files than bpgenc: x265
    lowers it by about 3 in intra pictures. Compare curves, not quantizers.
    """

    options_class = BpgOptions
    carries = frozenset({"exif", "icc"})

    @cached_property
    def uses_programs(self) -> bool:
        """Whether bpgenc and bpgdec do the work. Raises MissingError where nothing can."""
        wanted = self.options.encoder
        if wanted != "embedded" and all(shutil.which(name) for name in programs.NAMES):
            return True
        if wanted == "bpgenc":
            raise MissingError(f"{self.spec.name}: bpgenc and bpgdec aren't on the PATH")
        try:
            import av  # noqa: F401
        except ImportError:
            raise MissingError(
                f"{self.spec.name}: needs bpgenc and bpgdec on the PATH, or the package av "
                "(pip install av)"
            ) from None
        return False

    def write(self, picture: Picture, mode: str, point: float) -> bytes:
        if self.uses_programs:
            data = programs.encode(picture.pixels, round(point), self.options)
        else:
            data = self._embedded(picture.pixels, mode, point)
        return file.with_metadata(data, picture.metadata)

    def _embedded(self, pixels: Pixels, mode: str, point: float) -> bytes:
        """The file, by the encoder in this folder."""
        from toolkit_plugins.classical.bpg import samples, x265

        options = self.options
        colour, alpha = (pixels, None) if mode != "RGBA" else (pixels[:, :, :3], pixels[:, :, 3:])
        chroma = file.GRAY if mode == "L" else file.C420 if options.chroma == "4:2:0" else file.C444
        space = file.RGB if options.colour == "rgb" and mode != "L" else file.YCBCR
        if space == file.RGB and chroma != file.C444:
            raise ValueError("colour rgb needs chroma 4:4:4")
        preset, qp = _PRESETS[options.effort - 1], round(point)
        height, width = pixels.shape[:2]
        side = x265.block_side(height, width)
        planes = samples.to_planes(colour, chroma, space, side)
        coded = x265.encode(planes, chroma, qp, preset)
        over = None
        if alpha is not None:
            planes = samples.to_planes(alpha, file.GRAY, file.YCBCR, side)
            over = x265.encode(planes, file.GRAY, qp, preset)
        return file.write(file.BpgFile(width, height, chroma, space, 8, False, coded, over))

    def read(self, data: bytes) -> tuple[str, Pixels, Metadata]:
        picture = file.read(data)
        check_size(self.spec.name, picture.width, picture.height, data)
        return *self._pixels(picture, data), picture.metadata

    def _pixels(self, picture: file.BpgFile, data: bytes) -> tuple[str, Pixels]:
        if self.uses_programs:
            pixels = programs.decode(data)
            if picture.chroma == file.GRAY and picture.alpha is None:
                pixels = pixels[:, :, :1]
            return mode_of(pixels), pixels
        from toolkit_plugins.classical.bpg import samples, x265

        if picture.chroma > file.C444 or picture.premultiplied:
            raise ValueError("MPEG-2 chroma positions or premultiplied alpha: use bpgdec for it")
        planes = x265.decode(picture.stream(picture.colour), *picture.coded_size(picture.colour))
        pixels = samples.to_pixels(planes, picture)
        if picture.alpha is None:
            return ("L" if pixels.shape[2] == 1 else "RGB"), pixels
        over = x265.decode(picture.stream(picture.alpha), *picture.coded_size(picture.alpha))
        gray = replace(picture, chroma=file.GRAY, limited_range=False)
        alpha = samples.to_pixels(over, gray)
        if pixels.shape[2] == 1:
            pixels = pixels.repeat(3, axis=2)
        return "RGBA", np.concatenate([pixels, alpha], axis=2)

    def memory(self, height: int, width: int, *, encoding: bool = False) -> int:
        return 2**27 + (40 if encoding else 16) * height * width

    def identity(self) -> dict[str, Any]:
        if self.uses_programs:
            return programs.versions()
        from toolkit_plugins.classical.bpg import x265

        return {"encoder": "embedded x265", **x265.versions()}
