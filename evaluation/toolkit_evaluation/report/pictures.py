"""Which reconstructions a report shows, and the files they are shown from."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.codec.base import as_pixels
from toolkit.errors import ToolkitError
from toolkit_evaluation.results.row import Row
from toolkit_evaluation.run.kept_files import reconstruction_path
from toolkit_evaluation.run.recorded import Recorded
from toolkit_evaluation.run.task import pixels_sha256

FOLDER = "pictures"
"""Beside the page."""
RATES = 3
"""Rates at which each codec is shown."""


@dataclass(frozen=True)
class View:
    """A version of an image: the original, or what a codec made of it."""

    name: str
    data: bytes
    """A lossless WebP file."""
    codec: str = ""
    """Empty for the original."""
    source: str = ""
    """Of the file, from the page."""
    bpp: float | None = None
    psnr: float | None = None
    ms_ssim: float | None = None


@dataclass(frozen=True)
class Picture:
    """An image with its versions."""

    name: str
    width: int
    height: int
    views: tuple[View, ...]

    def plain(self) -> dict[str, Any]:
        """For the page's script."""
        return {
            "name": self.name,
            "width": self.width,
            "height": self.height,
            "views": [
                {key: value for key, value in vars(view).items() if key != "data"}
                for view in self.views
            ],
        }


def choose_pictures(
    recorded: Recorded, count: int, notice: Callable[[str], None] = lambda text: None
) -> list[Picture]:
    """The first ``count`` images of which reconstructions were kept, each codec at about the
    same few rates. Files that changed since are left out with a notice."""
    kept: dict[str, list[Row]] = {}
    for row in recorded.table.rows:
        if row.ok and _decoded_path(row) is not None:
            kept.setdefault(row.image, []).append(row)
    originals = {image.name: Path(image.path) for image in recorded.images}
    pictures: list[Picture] = []
    for image, rows in kept.items():
        if len(pictures) >= count:
            break
        views = [view for row in _at_same_rates(rows) if (view := _view(row, notice))]
        original = _original(rows[0], originals.get(image))
        if original is not None:
            views.insert(0, original)
        if views:
            named = tuple(
                replace(view, source=f"{FOLDER}/{len(pictures) + 1}-{number}.webp")
                for number, view in enumerate(views)
            )
            pictures.append(Picture(image, rows[0].width or 0, rows[0].height or 0, named))
    return pictures


def _decoded_path(row: Row) -> Path | None:
    """The reconstruction beside the kept file, None where there is none."""
    try:
        path = reconstruction_path(Path(row.file or ""), row.image)
        return path if row.file and path.is_file() else None
    except (ValueError, OSError):  # names that no file has
        return None


def _at_same_rates(rows: Sequence[Row]) -> list[Row]:
    """Of each codec the points nearest to a few rates that all codecs reach."""
    codecs: dict[str, list[tuple[float, Row]]] = {}
    for row in rows:
        codecs.setdefault(row.codec, []).append((row.bpp or 0.0, row))
    low = max(min(rate for rate, _ in own) for own in codecs.values())
    high = max(low, min(max(rate for rate, _ in own) for own in codecs.values()))
    chosen: dict[tuple[str, float | None], Row] = {}
    for wanted in np.geomspace(low, high, RATES):
        for codec, own in codecs.items():
            _, row = min(own, key=lambda pair: abs(np.log(pair[0] / wanted)))
            chosen.setdefault((codec, row.point), row)
    return list(chosen.values())


def _view(row: Row, notice: Callable[[str], None]) -> View | None:
    path = _decoded_path(row)
    if path is None:
        return None
    try:
        pixels = as_pixels(path)
    except ToolkitError as error:
        notice(str(error))
        return None
    if pixels_sha256(pixels) != row.decoded_sha256:
        notice(f"{path}: not the reconstruction that was measured; not shown")
        return None
    name = f"{row.codec} {row.point:g}"
    return View(name, _webp(pixels), row.codec, bpp=row.bpp, psnr=row.psnr, ms_ssim=row.ms_ssim)


def _original(row: Row, path: Path | None) -> View | None:
    try:
        pixels = as_pixels(path) if path is not None and path.is_file() else None
    except (ToolkitError, ValueError, OSError):
        return None
    if pixels is None or pixels_sha256(pixels) != row.pixels_sha256:
        return None
    return View("original", _webp(pixels))


def _webp(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """Pixels as a lossless WebP file: a third smaller than a PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.save(buffer, "WEBP", lossless=True, quality=40, method=2, exact=True)
    return buffer.getvalue()
