"""Published curves, in the JSON form of CompressAI's result tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from toolkit.errors import InputError
from toolkit_evaluation.data.kodak import is_kodak
from toolkit_evaluation.results.row import Row

USUAL = (
    ("jpeg.json", "JPEG"),
    ("bpg_444_x265_ycbcr.json", "BPG 4:4:4"),
    ("compressai-bmshj2018-hyperprior_mse_cuda.json", "hyperprior (MSE)"),
    ("vtm.json", "VTM"),
)
"""The files to draw, of the many in CompressAI's folder, and short names for them."""


@dataclass(frozen=True)
class ReferencePoint:
    """A point of a published curve: means over the images of a data set."""

    bpp: float
    psnr: float
    ms_ssim: float | None

    def value(self, name: str) -> float | None:
        """The figure or metric of this name, None where it isn't known."""
        return getattr(self, name, None)


@dataclass(frozen=True)
class Reference:
    """A published curve."""

    name: str
    points: list[ReferencePoint]


def read_references(folder: Path, usual: bool = True) -> list[Reference]:
    """The curves in a folder: of ``USUAL`` those that are there, or else all.

    Raises InputError for a folder that isn't there or a file that isn't such a table.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of reference curves")
    chosen = [(folder / name, title) for name, title in USUAL if (folder / name).is_file()]
    if not chosen or not usual:
        chosen = [(path, "") for path in sorted(folder.glob("*.json"))]
    if not chosen:
        raise InputError(f"{folder}: no JSON files with reference curves")
    return [read_reference(path, title) for path, title in chosen]


def references_for(
    rows: Iterable[Row], named: Path | None, default: Path | None = None
) -> list[Reference]:
    """The published curves to draw beside rows: those of the folder that was named, or of
    ``default`` where the images are the Kodak suite, over which they are means."""
    if named is not None:
        return read_references(named)
    hashes = {row.pixels_sha256 for row in rows}
    return read_references(default) if default and is_kodak(hashes) else []


def read_reference(path: Path, title: str = "") -> Reference:
    """One curve. Raises InputError for a file of another form."""
    try:
        data = msgspec.json.decode(path.read_bytes())
        results = data["results"]
        points = [
            _point(bpp, psnr, similarity)
            for bpp, psnr, similarity in zip(
                results["bpp"],
                results["psnr-rgb"],
                results.get("ms-ssim-rgb", [None] * len(results["bpp"])),
                strict=True,
            )
        ]
    except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a table of results in CompressAI's form ({error})") from None
    return Reference(title or str(data.get("name", path.stem)), points)


def _point(bpp: Any, psnr: Any, similarity: Any) -> ReferencePoint:
    # some published tables hold a sentinel where a metric wasn't measured
    known = similarity is not None and 0 < float(similarity) < 1
    return ReferencePoint(float(bpp), float(psnr), float(similarity) if known else None)
