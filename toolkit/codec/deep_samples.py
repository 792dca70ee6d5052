"""Pictures of 16 bits a sample, rounded to 8 without dithering.

Pillow has no colour mode of 16 bits: its readers keep the high byte of each sample. Read a second
time, with the order of bytes exchanged, they keep the low one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from toolkit.codec.pixels import Pixels, checked
from toolkit.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

GRAY = ("I", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes of gray pictures with more than 8 bits."""
_LITTLE = sys.byteorder == "little"
_EXCHANGED = {"B": "L", "L": "B", "N": "B" if _LITTLE else "L"}
_PPM, _SGI, _GRAY_ALPHA = "ppm", "SGI16", "LA;16B"


def layout(opened: Any) -> str:
    """How the samples of a file lie that was opened and not loaded yet, where they have more than
    8 bits; else "". The modes RGB and RGBA don't tell, the arguments of Pillow's decoders do:
    ``RGB;16B``, or a PNM file's maximum."""
    for tile in getattr(opened, "tile", ()):
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if ";16" in str(arguments[0]):
            return str(arguments[0])
        if tile[0] == _SGI:
            return _SGI
        if tile[0].startswith(_PPM) and isinstance(arguments[-1], int) and arguments[-1] > 255:
            return _PPM
    return ""


def read(image: str | Path | BinaryIO, opened: Any, samples: str) -> Pixels:
    """uint8 pixels of the file ``image``, which is ``opened``, its samples lying as ``layout``
    said. Raises InputError, and what Pillow does."""
    from PIL import Image

    opened.load()
    first = np.asarray(opened)
    if opened.mode in GRAY:
        return rounded(first)
    if samples == _PPM:  # whose reader rounds
        return checked(first)
    if samples == _SGI:  # whose reader knows no order of bytes
        raise InputError("16 bits a sample in an SGI file: convert it to 8-bit L, RGB or RGBA")
    if not isinstance(image, (str, Path)):
        image.seek(0)
    low_bytes = "RGBA" if samples == _GRAY_ALPHA else samples[:-1] + _EXCHANGED[samples[-1]]
    with Image.open(image) as again:
        again.tile = [tile._replace(args=_exchanged(tile[3], low_bytes)) for tile in again.tile]
        again.load()
        second = np.asarray(again)
    if samples == _GRAY_ALPHA:  # read as if high and low bytes were samples of their own
        high, low = second[:, :, (0, 0, 0, 2)], second[:, :, (1, 1, 1, 3)]
    else:
        high, low = first, second
    return rounded(high.astype(np.uint16) << 8 | low)


def _exchanged(arguments: Any, layout: str) -> Any:
    return (layout, *arguments[1:]) if isinstance(arguments, tuple) else layout


def rounded(samples: NDArray[Any]) -> Pixels:
    """Samples from 0 to 65535 as uint8 from 0 to 255. Raises InputError for others."""
    if samples.size and not 0 <= samples.min() <= samples.max() <= 65535:
        raise InputError("samples of more than 16 bits: convert it to 8-bit L, RGB or RGBA")
    return checked(((samples.astype(np.uint32) + 128) // 257).astype(np.uint8))
