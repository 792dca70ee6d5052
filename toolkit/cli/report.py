"""``toolkit report``: the results of evaluations as a page, plots and tables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli import say, session
from toolkit.errors import InputError


def report(
    run: Annotated[Path, typer.Argument(help="A results folder, as `eval --out` made it.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; default: RUN/report.")
    ] = None,
    anchor: Annotated[
        str | None, typer.Option(help="Codec that BD-rates are against; default: the classical.")
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Folder of published curves; default, for Kodak: $TOOLKIT_REFERENCE."),
    ] = None,
    pictures: Annotated[
        int, typer.Option(min=0, help="Images to show side by side, if files were kept.")
    ] = 2,
    thesis: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the thesis's own points (thesis_*.csv): draw its figures 4.1, 4.2 "
            "and 4.9 beside ours, and its cross-sections of the latent space; write table 4.1."
        ),
    ] = None,
    latents: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGE",
            help="Draw cross-sections of this image's latents; with --thesis kodim21, else the "
            "first, are drawn anyway.",
        ),
    ] = None,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Rate-distortion report",
) -> None:
    """Write an HTML page that works offline, with pictures, plots and tables for programs beside
    it: CSV files, CompressAI's JSON."""
    from toolkit_evaluation.report.page import ReportSettings, write_report
    from toolkit_evaluation.results.reference import references_for
    from toolkit_evaluation.run.recorded import read_run
    from toolkit_evaluation.thesis.cross_sections import cross_sections
    from toolkit_evaluation.thesis.figures import read_thesis, thesis_figures
    from toolkit_evaluation.thesis.times import write_coding_times

    recorded = read_run(run, say)
    default = os.environ.get("TOOLKIT_REFERENCE")
    references = references_for(recorded.table.rows, reference, Path(default) if default else None)
    settings = ReportSettings(references, anchor, pictures, title)
    folder = out or run / "report"
    if out is None and folder.is_symlink():
        raise InputError(f"{folder}: a link; say with --out where the report is to go")
    points = read_thesis(thesis) if thesis else None
    print(write_report(recorded, folder, settings, say))
    paths: list[Path] = []
    if points:
        paths += thesis_figures(recorded.table, points, folder / "thesis")
        paths += write_coding_times(recorded.table, points, folder / "thesis")
    if points or latents:
        paths += cross_sections(
            recorded, session().plugins, latents, folder / ("thesis" if points else "latents"), say
        )
    for path in paths:
        print(path)


def register(app: typer.Typer) -> None:
    app.command("report")(report)
