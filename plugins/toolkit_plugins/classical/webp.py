"""WebP, by libwebp."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from toolkit.options import Options
from toolkit_plugins.classical.pillow import PillowCodec

if TYPE_CHECKING:
    from toolkit.codec.base import Metadata, Picture, Pixels


class WebPOptions(Options, frozen=True):
    """Lossy WebP is 4:2:0 always."""

    effort: Annotated[int, Meta(ge=0, le=6)] = 4
    """libwebp's method; 4 is its default, and that of the published curves."""


class WebP(PillowCodec):
    """Files: ``.webp``, to 16,383 pixels a side; the rate parameter is libwebp's quality.

    The format has no gray: gray pictures are coded as RGB, and decode to RGB. Alpha is
    coded without loss, and the colour below transparent pixels is kept.
    """

    options_class = WebPOptions
    format = "WEBP"
    library = "webp"
    carries = frozenset({"exif", "icc"})

    def carried(self, picture: Picture) -> Metadata:
        metadata = super().carried(picture)
        # a profile for gray doesn't fit colours
        return metadata if picture.pixels.shape[2] > 1 else replace(metadata, icc=b"")

    def parameters(self, pixels: Pixels, point: float) -> dict[str, Any]:
        return {"quality": point, "method": self.options.effort, "exact": True}
