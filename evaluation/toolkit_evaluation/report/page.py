"""A run as an HTML page with its pictures beside it, which works offline and from a folder."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from toolkit.errors import InputError
from toolkit.format.files import write_bytes_atomically
from toolkit_evaluation.report import sections
from toolkit_evaluation.report.pictures import Picture, choose_pictures
from toolkit_evaluation.results.curve import curve_of
from toolkit_evaluation.results.export import export
from toolkit_evaluation.results.figure import COLOURS, save
from toolkit_evaluation.results.reference import Reference
from toolkit_evaluation.results.row import Mean, Row
from toolkit_evaluation.results.table import Table
from toolkit_evaluation.run.recorded import Recorded

PAGE = Path(__file__).parent / "page"
_LABELS = {"psnr": ("PSNR, dB", "dB"), "ms_ssim": ("MS-SSIM, dB", "dB")}


@dataclass(frozen=True)
class ReportSettings:
    """What goes into a report."""

    references: Sequence[Reference] = ()
    anchor: str | None = None
    """For BD-rates; None: the run's."""
    pictures: int = 2
    """Images to show side by side; each takes some megabytes beside the page."""
    title: str = "Rate-distortion report"


def write_report(
    recorded: Recorded,
    folder: Path,
    settings: ReportSettings = ReportSettings(),
    notice: Callable[[str], None] = lambda text: None,
) -> Path:
    """Write ``report.html`` into ``folder``, with the pictures that it shows, plots (PNG, SVG), CSV
    files and tables for CompressAI's plot tool beside it; return the page's path.

    Raises UnknownName for an anchor that the run lacks, InputError for a folder with links that
    lead out of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    check_links(folder)
    pictures = choose_pictures(recorded, settings.pictures, notice)
    page = report_html(recorded, pictures, settings)
    export(recorded.table, folder, recorded.run)
    figure = recorded.table.figure(settings.references)
    for suffix in ("png", "svg"):
        save(figure, folder / f"rate-distortion.{suffix}")
    for view in (view for picture in pictures for view in picture.views):
        file = folder / view.source
        file.parent.mkdir(exist_ok=True)
        write_bytes_atomically(file, view.data)
    path = folder / "report.html"
    write_bytes_atomically(path, page.encode())
    return path


def check_links(folder: Path) -> None:
    """Raises InputError for a folder in which a link leads out of it: what is written goes through
    links, and a results folder may be somebody else's."""
    home = folder.resolve()
    for path in folder.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(home):
            raise InputError(f"{path}: a link that leads out of the report's folder; remove it")


def report_html(recorded: Recorded, pictures: Sequence[Picture], settings: ReportSettings) -> str:
    """The page."""
    table = recorded.table
    deltas = table.bd_rates(settings.anchor)
    parts = [
        ("viewer", "Side by side", sections.viewer(pictures)),
        ("bd-rate", "BD-rate", sections.bd_section(deltas, table)),
        ("means", "Means", sections.means_section(table)),
        ("speed", "Speed and memory", sections.speed_section(table)),
        ("failures", "Failures", sections.failures_section(table)),
        ("origin", "How this was made", sections.origin_section(recorded)),
    ]
    links = [("curves", "Curves"), *((name, title) for name, title, _ in parts)]
    return Template(_page("report.html")).substitute(
        title=escape(settings.title),
        summary=_summary(recorded),
        navigation=" ".join(f'<a href="#{name}">{title}</a>' for name, title in links),
        style=_page("report.css"),
        script=_page("report.js"),
        static_plot=_static_plot(table, settings.references),
        sections="\n".join(
            f'<section id="{name}">\n<h2>{title}</h2>\n{body}\n</section>'
            for name, title, body in parts
        ),
        data=_embed(_data(table, settings.references, pictures)),
    )


def _page(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


def _summary(recorded: Recorded) -> str:
    table = recorded.table
    images = {row.image for row in table.rows}
    failed = len(table.failures)
    text = (
        f"{', '.join(table.codecs)} on {len(images)} image{'s' * (len(images) != 1)}; "
        f"{len(table.rows)} rows, {failed or 'none'} failed. "
        f"Last run {recorded.run.get('started', 'unknown')}."
    )
    return escape(text)


def _static_plot(table: Table, references: Sequence[Reference]) -> str:
    buffer = io.StringIO()
    table.figure(references).savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _embed(value: Any) -> str:
    """JSON that no text in it can end the script element of."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


# -- what the script draws ------------------------------------------------------


def _data(
    table: Table, references: Sequence[Reference], pictures: Sequence[Picture]
) -> dict[str, Any]:
    metrics = ["psnr", "ms_ssim", *table.metrics]
    good = [row for row in table.rows if row.ok]
    images = list(dict.fromkeys(row.image for row in good))
    groups: dict[str, Sequence[Row | Mean]] = {"": table.means}
    groups |= {image: [row for row in good if row.image == image] for image in images}
    curves = [
        curve
        for image, rows in groups.items()
        for number, codec in enumerate(table.codecs)
        for metric in metrics
        for theoretical in (False, True)
        if (curve := _curve(rows, image, codec, metric, theoretical, number))["points"]
    ]
    present = {curve["metric"] for curve in curves}
    return {
        "curves": curves,
        "images": images,
        "metrics": [
            {"name": m, "label": _LABELS.get(m, (m, ""))[0], "unit": _LABELS.get(m, (m, ""))[1]}
            for m in metrics
            if m in present
        ],
        "references": [
            {"name": r.name, "metric": metric, "points": sorted(curve_of(r.points, metric))}
            for r in references
            for metric in _LABELS
        ],
        "pictures": [picture.plain() for picture in pictures],
    }


def _curve(
    rows: Sequence[Row | Mean], image: str, codec: str, metric: str, theoretical: bool, number: int
) -> dict[str, Any]:
    points = []
    for row in rows:
        if row.codec == codec:
            points += [[*point, row.point] for point in curve_of([row], metric, theoretical)]
    return {
        "name": codec + (", theoretical" if theoretical else ""),
        "image": image,
        "metric": metric,
        "theoretical": theoretical,
        "colour": COLOURS[number % len(COLOURS)],
        "points": sorted(points),
    }
