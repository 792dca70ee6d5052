"""Classical codecs: native files, written and read by the formats' own libraries."""

from __future__ import annotations

from collections.abc import Iterator

from toolkit.hookspecs import hookimpl
from toolkit.specs import CodecSpec, Knob

_QUALITY = Knob("quality", 1, 100, integer=True)


@hookimpl
def toolkit_codecs() -> Iterator[CodecSpec]:
    yield CodecSpec(
        "jpeg",
        "JPEG, 4:2:0 (Pillow, libjpeg-turbo)",
        f"{__name__}.jpeg:Jpeg",
        reference="ITU-T T.81 (1992)",
        knob=_QUALITY,
        suffix=".jpg",
        magic=((0, b"\xff\xd8\xff"),),
    )
