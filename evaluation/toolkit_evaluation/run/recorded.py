"""A run read back from its folder, for reports and exports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from toolkit.errors import InputError
from toolkit_evaluation.results.row import METRICS, Row, column
from toolkit_evaluation.results.table import Table
from toolkit_evaluation.run.store import ROWS, RUN, read_rows


@dataclass(frozen=True)
class Recorded:
    """Everything that a results folder holds."""

    folder: Path
    table: Table
    run: dict[str, Any]
    """``run.json`` of the last evaluation into this folder."""


def read_run(folder: Path, notice: Callable[[str], None] = lambda text: None) -> Recorded:
    """The rows of all evaluations into ``folder``, one for each image, codec and point.

    Where a codec's rows were made with several versions of its options or weights, the newest
    version's count, with a notice. Raises InputError for a folder without results.
    """
    folder = Path(folder)
    if not (folder / ROWS).is_file():
        raise InputError(f"{folder}: no results there ({ROWS} is missing)")
    latest = {row.key: row for row in read_rows(folder / ROWS, notice)}
    rows = _newest(list(latest.values()), notice)
    if not rows:
        raise InputError(f"{folder / ROWS}: no rows yet")
    run = _read_json(folder / RUN)
    metrics = tuple(column(name) for name in run.get("metrics", ()) if name not in METRICS)
    anchor = run.get("anchor")
    codecs = {row.codec for row in rows}
    return Recorded(folder, Table(rows, metrics, anchor if anchor in codecs else None), run)


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


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"{path}: can't be read ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: not the record of a run")
    return value
