"""JPEG XL, by libjxl."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Annotated, Any

import PIL
import pillow_jxl  # noqa: F401  (its import adds the format to Pillow)
from msgspec import Meta

from toolkit.format.container import BadStream
from toolkit.options import Options
from toolkit_plugins.classical.pillow import PillowCodec, check_size

if TYPE_CHECKING:
    from toolkit.codec.base import Metadata, Pixels

_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


class JxlOptions(Options, frozen=True):
    """Colour is coded in XYB and not subsampled."""

    effort: Annotated[int, Meta(ge=1, le=9)] = 7
    """libjxl's: more is slower and smaller."""


class JpegXL(PillowCodec):
    """Files: ``.jxl``; the rate parameter is libjxl's quality, 90 being Butteraugli distance 1.

    Its writer takes no colour profile. The colour of wholly transparent pixels isn't kept.
    """

    options_class = JxlOptions
    format = "JXL"
    carries = frozenset({"exif"})

    def parameters(self, pixels: Pixels, point: float) -> dict[str, Any]:
        return {"quality": point, "effort": self.options.effort, "num_threads": 1}

    def read(self, data: bytes) -> tuple[str, Pixels, Metadata]:
        # the plugin decodes when it opens: its size must be checked before
        check_size(self.spec.name, *frame_size(_codestream(data)), data)
        try:
            return super().read(data)
        except Exception:
            raise
        except BaseException as error:  # a panic of the plugin's Rust code is no Exception
            if type(error).__name__ != "PanicException":
                raise
            raise BadStream(f"{self.spec.name}: damaged file; get a fresh copy") from None

    def read_size(self, data: bytes) -> None:
        return None  # the plugin decodes when it opens

    def identity(self) -> dict[str, Any]:
        return {
            "pillow": PIL.__version__,
            "pillow-jxl-plugin": importlib.metadata.version("pillow-jxl-plugin"),
        }


def frame_size(codestream: bytes) -> tuple[int, int]:
    """Width and height that a codestream declares (ISO/IEC 18181-1, SizeHeader).

    Raises ValueError for one that is cut.
    """
    bits = _Bits(codestream, 16)
    small = bits.take(1)
    height = _side(bits, small)
    ratio = bits.take(3)
    if ratio:
        up, down = _RATIOS[ratio - 1]
        return height * up // down, height
    return _side(bits, small), height


def _side(bits: _Bits, small: int) -> int:
    if small:
        return 8 * (bits.take(5) + 1)
    return bits.take((9, 13, 18, 30)[bits.take(2)]) + 1


def _codestream(data: bytes) -> bytes:
    """The codestream's first bytes, out of the boxes where there are any."""
    if data[:2] == b"\xff\x0a":
        return data[:32]
    at = 0
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        head = 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if kind in (b"jxlc", b"jxlp"):
            start = at + head + 4 * (kind == b"jxlp")
            return data[start : start + 32]
        if size < head:
            break
        at += size
    raise ValueError("no codestream")


class _Bits:
    """Bits of ``data`` from bit ``at``, the lowest bit of each byte first."""

    def __init__(self, data: bytes, at: int) -> None:
        self.value, self.left = int.from_bytes(data, "little") >> at, 8 * len(data) - at

    def take(self, count: int) -> int:
        if count > self.left:
            raise ValueError("cut within its header")
        taken = self.value & (1 << count) - 1
        self.value >>= count
        self.left -= count
        return taken
