"""A run read back from its folder, for reports and exports."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from toolkit.errors import InputError
from toolkit_evaluation.results.row import METRICS, Row, column
from toolkit_evaluation.results.table import Table
from toolkit_evaluation.run.store import ROWS, RUN, read_rows


class RunImage(msgspec.Struct, frozen=True):
    """An image of the last evaluation."""

    name: str
    path: str


class RunPreset(msgspec.Struct, frozen=True):
    """A preset of the last evaluation."""

    name: str
    codec: str
    options: dict[str, Any]
    points: list[float | str] = []
    identity: dict[str, Any] = {}


class _Run(msgspec.Struct, frozen=True):
    """The parts of ``run.json`` that are used."""

    images: list[RunImage] = []
    presets: list[RunPreset] = []
    metrics: list[str] = []
    anchor: str | None = None
    command: list[str] = []
    earlier_commands: list[list[str]] = []
    started: str = "unknown"
    versions: dict[str, Any] = {}


@dataclass(frozen=True)
class Recorded:
    """Everything that a results folder holds."""

    folder: Path
    table: Table
    run: dict[str, Any]
    """``run.json`` of the last evaluation into this folder; what isn't as we write it left out."""

    @property
    def images(self) -> list[RunImage]:
        """Those of the last evaluation, and where they lie."""
        return msgspec.convert(self.run.get("images", []), list[RunImage])

    @property
    def presets(self) -> list[RunPreset]:
        """Those of the last evaluation."""
        return msgspec.convert(self.run.get("presets", []), list[RunPreset])


def read_run(folder: Path, notice: Callable[[str], None] = lambda text: None) -> Recorded:
    """The rows of all evaluations into ``folder``, one for each image, codec and point.

    Where a codec's rows were made with several versions of its options or weights, the newest
    version's count, with a notice. Raises InputError for a folder without results.
    """
    folder = Path(folder)
    if not (folder / ROWS).is_file():
        raise InputError(f"{folder}: no results there ({ROWS} is missing)")
    run = _read_run(folder / RUN, notice)
    named = {image["name"] for image in run.get("images", ())}
    rows = _newest(_of_each_image(read_rows(folder / ROWS, notice), named), notice)
    if not rows:
        raise InputError(f"{folder / ROWS}: no rows yet")
    metrics = tuple(column(name) for name in run.get("metrics", ()) if name not in METRICS)
    anchor = run.get("anchor")
    codecs = {row.codec for row in rows}
    return Recorded(folder, Table(rows, metrics, anchor if anchor in codecs else None), run)


def _of_each_image(rows: Iterable[Row], named: set[str]) -> list[Row]:
    """The latest row of each result and image. Images of equal pixels share their results, and
    each has its row; of an image that was renamed, the name in the last evaluation (``named``)."""
    latest: dict[str, dict[tuple[str, str], Row]] = {}
    for row in rows:
        latest.setdefault(row.key, {})[row.codec, row.image] = row
    found: list[Row] = []
    for same in latest.values():
        known = [row for row in same.values() if row.image in named]
        found += known or same.values()
    return found


def _newest(rows: list[Row], notice: Callable[[str], None]) -> list[Row]:
    """Rows of each codec's newest version, by codec, image and point."""
    version = {row.codec: _version(row) for row in rows}
    kept = [row for row in rows if version[row.codec] == _version(row)]
    if len(kept) < len(rows):
        notice(f"{len(rows) - len(kept)} rows of earlier options or weights are left out")
    # an image renamed or replaced keeps the newest row under its name
    unique = {(row.codec, row.image, row.point_label): row for row in kept}
    codecs, images = list(version), sorted({row.image for row in kept})
    return sorted(
        unique.values(),
        key=lambda row: (
            codecs.index(row.codec),
            images.index(row.image),
            -1.0 if row.point is None else row.point,
        ),
    )


def _version(row: Row) -> tuple[str, str]:
    return row.preset_identity, row.codec_identity


def _read_run(path: Path, notice: Callable[[str], None]) -> dict[str, Any]:
    """The record of a run, without what no run writes. Raises InputError."""
    try:
        value = msgspec.json.decode(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: can't be read ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: not the record of a run")
    for name in set(value) & set(_Run.__struct_fields__):
        try:
            msgspec.convert({name: value[name]}, _Run)
        except msgspec.ValidationError as error:
            notice(f"{path}: '{name}' isn't as a run writes it ({error}); left out")
            del value[name]
    return value
