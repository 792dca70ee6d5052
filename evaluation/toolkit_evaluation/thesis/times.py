"""The thesis's table 4.1: seconds to encode and to decode an image; our codecs below its model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolkit.format.files import write_bytes_atomically
from toolkit_evaluation.results.export import csv_of
from toolkit_evaluation.results.row import Mean, Row
from toolkit_evaluation.results.table import Table
from toolkit_evaluation.thesis.figures import Thesis

IMAGE = "kodim01"
"""The image of the thesis's times."""
_TIMES = ("encode_s", "coder_encode_s", "decode_s", "coder_decode_s")
_TITLES = ("model", "point or beta", "images", "bpp", "encode, s", "of it coder", "decode, s",
           "of it coder")  # fmt: skip

Record = dict[str, Any]


def coding_times(table: Table, thesis: Thesis) -> list[Record]:
    """The rows of table 4.1: the thesis's, then those of every codec that codes samples.

    Ours are of the thesis's image if all these codecs coded it, else means over the images.

    Arguments:
        table: Rows of an evaluation.
        thesis: The thesis's own numbers.

    Returns:
        One record a model and rate, lowest rate first: ``model``, ``point`` (beta in the
        thesis's rows), ``images``, ``bpp`` in bits per pixel, and seconds; None: not known.
    """
    records: list[Record] = []
    for theirs in sorted(thesis.notebook, key=lambda record: float(record["bpp"])):
        known = {name: float(theirs[name]) for name in ("bpp", "encode_s", "decode_s")}
        start = {"model": f"thesis: {theirs['model']}", "point": theirs.get("beta", "")}
        records.append({**start, "images": IMAGE, **_figures(known)})
    samplers = list(dict.fromkeys(row.codec for row in table.rows if row.ok and row.kl_bits))
    for found, images in _measured(table, samplers):
        figures = _figures({name: found.value(name) for name in ("bpp", *_TIMES)})
        records.append(
            {"model": found.codec, "point": found.point_label, "images": images, **figures}
        )
    return records


def _figures(known: Record) -> Record:
    return {name: known.get(name) for name in ("bpp", *_TIMES)}


def _measured(table: Table, codecs: Sequence[str]) -> list[tuple[Row | Mean, str]]:
    """Rows of the thesis's image, or means; codec by codec, lowest rate first."""
    of_image = [row for row in table.rows if row.ok and row.image == IMAGE]
    found: list[tuple[Row | Mean, str]] = []
    for codec in codecs:
        ours: list[tuple[Row | Mean, str]] = [(r, IMAGE) for r in of_image if r.codec == codec]
        if any(codec not in {row.codec for row in of_image} for codec in codecs):
            means = table.means_of(codec)
            ours = [(mean, f"mean of {mean.images}") for mean in means if mean.images]
        found += sorted(ours, key=lambda one: one[0].value("bpp") or 0.0)
    return found


def write_coding_times(table: Table, thesis: Thesis, folder: Path) -> list[Path]:
    """Write ``table-4.1.md`` and ``table-4.1.csv`` to ``folder``; return the first's path."""
    records = coding_times(table, thesis)
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(folder / "table-4.1.csv", csv_of(records))
    lines = [_TITLES, ["---"] * len(_TITLES)]
    lines += [[_cell(name, value) for name, value in record.items()] for record in records]
    text = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    write_bytes_atomically(folder / "table-4.1.md", text.encode())
    return [folder / "table-4.1.md"]


def _cell(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value.replace("|", "\\|")
    return "" if value is None else f"{value:.{3 if name == 'bpp' else 2}f}"
