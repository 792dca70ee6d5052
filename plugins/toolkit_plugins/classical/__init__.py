"""Classical codecs: native files, written and read by the formats' own libraries."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from toolkit.plugin.hookspecs import hookimpl
from toolkit.plugin.specs import CodecSpec, RateParameter

_QUALITY = RateParameter("quality", 1, 100, integer=True)


CODECS = (
    CodecSpec(
        "jpeg",
        "JPEG (Pillow, libjpeg-turbo)",
        f"{__name__}.jpeg:Jpeg",
        reference="ITU-T T.81 (1992)",
        rate_parameter=_QUALITY,
        suffix=".jpg",
        magic=((0, b"\xff\xd8\xff"),),
    ),
    CodecSpec(
        "webp",
        "WebP, lossy: VP8 intra frames, 4:2:0 (Pillow, libwebp)",
        f"{__name__}.webp:WebP",
        reference="RFC 9649 (2024)",
        rate_parameter=_QUALITY,
        suffix=".webp",
        magic=((8, b"WEBP"),),
    ),
    CodecSpec(
        "jpeg2000",
        "JPEG 2000, irreversible 9/7 wavelet (Pillow, OpenJPEG)",
        f"{__name__}.jpeg2000:Jpeg2000",
        reference="ITU-T T.800 (2002)",
        rate_parameter=RateParameter("ratio", 1, 2000, more_bits="down"),
        suffix=".jp2",
        magic=((0, b"\x00\x00\x00\x0cjP  \r\n\x87\n"), (0, b"\xff\x4f\xff\x51")),
    ),
    CodecSpec(
        "avif",
        "AVIF: AV1 intra frames (Pillow, libaom, dav1d)",
        f"{__name__}.avif:Avif",
        reference="AOMedia AV1 Image File Format 1.1 (2022)",
        rate_parameter=_QUALITY,
        suffix=".avif",
        magic=((4, b"ftypavif"),),
    ),
    CodecSpec(
        "heic",
        "HEIC: HEVC intra frames (pillow-heif, x265, libde265)",
        f"{__name__}.heic:Heic",
        needs=("python:pillow_heif",),
        reference="ISO/IEC 23008-12 (2017)",
        rate_parameter=_QUALITY,
        suffix=".heic",
        magic=((4, b"ftypheic"), (4, b"ftypheix"), (4, b"ftypmif1")),
    ),
    CodecSpec(
        "jxl",
        "JPEG XL (pillow-jxl-plugin, libjxl)",
        f"{__name__}.jxl:JpegXL",
        needs=("python:pillow_jxl",),
        reference="ISO/IEC 18181-1 (2022)",
        rate_parameter=_QUALITY,
        suffix=".jxl",
        magic=((0, b"\xff\x0a"), (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n")),
    ),
    CodecSpec(
        "bpg",
        "BPG: HEVC intra frames (bpgenc, or x265 and FFmpeg in the package av)",
        f"{__name__}.bpg.codec:Bpg",
        # the programs do without the package
        needs=() if shutil.which("bpgenc") and shutil.which("bpgdec") else ("python:av",),
        reference="Bellard, BPG specification 0.9.5 (2015)",
        rate_parameter=RateParameter("qp", 0, 51, integer=True, more_bits="down"),
        suffix=".bpg",
        magic=((0, b"BPG\xfb"),),
    ),
)


@hookimpl
def toolkit_codecs() -> Iterator[CodecSpec]:
    yield from CODECS
