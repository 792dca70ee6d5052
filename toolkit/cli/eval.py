"""``toolkit eval``: rate and distortion of presets on images."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.cli import say, session
from toolkit.cli.options import OptionList
from toolkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from toolkit_evaluation.results.table import Table
    from toolkit_evaluation.run.evaluation import Plan

    Row = dict[str, Any]

DONE_WITH_FAILURES = 5
SPEAK_EVERY = 30.0
"""Seconds between lines of progress, where there is no terminal."""


def evaluate(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGES...", help="Folders, files, or data sets: samples, kodak."),
    ],
    codec: Annotated[
        list[str], typer.Option("--codec", help="A preset; may be repeated. See `presets`.")
    ],
    option: OptionList = None,
    point: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[PRESET:]NUMBER",
            help="Points of the curves instead of the presets' own; may be repeated.",
        ),
    ] = None,
    target_bpp: Annotated[
        list[float] | None,
        typer.Option(help="For each image, find the point nearest to, but not above, this rate."),
    ] = None,
    target_psnr: Annotated[
        list[float] | None,
        typer.Option(help="For each image, find the cheapest point that reaches this many dB."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder that keeps the results; a rerun computes what is missing.")
    ] = Path("results"),
    json: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Write rows and means as JSON.")
    ] = None,
    keep_files: Annotated[
        Path | None, typer.Option(help="Folder for coded files and reconstructions.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="A metric beside PSNR and MS-SSIM (psnr-y, ssim, lpips, dists, ssimulacra2, "
            "butteraugli, or a plugin's); may be repeated."
        ),
    ] = None,
    anchor: Annotated[
        str | None,
        typer.Option(help="Codec of the run that BD-rates are against; default: the classical."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="Folder of published curves in CompressAI's JSON, drawn thin; "
            "default, for Kodak: $TOOLKIT_REFERENCE."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes to work with.")] = 1,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            "--jobs",
            min=1,
            help="Threads of each process; default: the processors, shared out among the workers.",
        ),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds that one row may take.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Work on a Dask cluster: tcp://HOST:PORT.")
    ] = None,
    repeat: Annotated[
        int, typer.Option(min=1, help="Times to code and decode each; the fastest counts.")
    ] = 1,
    separate: Annotated[
        bool,
        typer.Option(
            "--separate",
            help="Code in one process and decode in another, so that neither's time and memory "
            "has a share of the other's; rows measured otherwise are measured again.",
        ),
    ] = False,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Compute failed rows again.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Decode the kept files again, in other processes; compare."),
    ] = False,
    no_plot: Annotated[bool, typer.Option("--no-plot", help="Draw no curves.")] = False,
) -> None:
    """Code and decode IMAGES with each preset; measure, tabulate and plot.

    Exit status 5 if any image failed; the rest of the results stand. 130 if interrupted
    (Ctrl-C); then, as after any other end, the same command goes on where it stopped.
    """
    from toolkit.cli.options import presets_with_options
    from toolkit_evaluation.run.evaluation import METRICS, Execution, plan, targets_of

    if verify and keep_files is None:
        raise UsageError("--verify decodes the files that --keep-files keeps: name its folder")
    here = session()
    presets = presets_with_options(here.registry, codec, option)
    names = [preset.name for preset in presets]
    if anchor is not None and anchor not in names:
        raise UsageError(f"--anchor {anchor}: not among the codecs of this run")
    work = plan(
        presets,
        images,
        plugins=here.plugins,
        points=_points(point or [], names),
        targets=targets_of(target_bpp or (), target_psnr or ()),
        metrics=tuple(dict.fromkeys((*METRICS, *(metric or ())))),
        out=out,
        keep_files=keep_files,
        execution=Execution(workers, threads, timeout, repeat, retry_errors, scheduler, separate),
        notice=say,
    )
    try:
        with _progress(work.total) as work.on_row:
            table = work.run()
        failed = _verify(work, table) if verify else False
    except KeyboardInterrupt:
        say(f"interrupted; what was computed is in {out}, the same command goes on from there")
        raise SystemExit(130) from None
    _report(table, out, json, anchor, None if no_plot else reference, not no_plot)
    if table.failures or failed:
        raise typer.Exit(DONE_WITH_FAILURES)


def _verify(work: Plan, table: Table) -> bool:
    """Whether any kept file failed; says how many were checked."""
    kept = sum(row["file"] is not None for row in table.rows)
    with _progress(kept) as work.on_row:
        wrong = work.verify(table)
    for row in wrong:
        say(f"{row['image']}, {row['codec']} at {row['point']:g}: {row['error']}")
    say(f"{kept - len(wrong)} of {kept} files decode, in another process, to the measured pixels")
    return bool(wrong)


def _points(texts: list[str], presets: list[str]) -> dict[str, list[float]]:
    """``NUMBER`` counts for every preset, ``PRESET:NUMBER`` for one."""
    points: dict[str, list[float]] = {}
    for text in texts:
        name, colon, number = text.rpartition(":")
        if colon and name not in presets:
            raise UsageError(f"--point {text}: preset '{name}' isn't among the codecs of this run")
        try:
            value = float(number)
        except ValueError:
            raise UsageError(f"--point {text}: '{number}' is no number") from None
        for preset in [name] if colon else presets:
            points.setdefault(preset, []).append(value)
    return points


@contextmanager
def _progress(total: int) -> Iterator[Callable[[Row, bool], None]]:
    """A progress bar on standard error; where that is no terminal, a line now and then."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from toolkit_evaluation.results.table import aim_of

    columns = (
        TextColumn("{task.description:<32.32}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("starting", total=total)

        spoken = time.monotonic()

        def on_row(row: Row, cached: bool) -> None:
            nonlocal spoken
            if progress.disable and time.monotonic() - spoken > SPEAK_EVERY:
                spoken = time.monotonic()
                say(f"{progress.tasks[bar].completed + 1:.0f} of {total} rows")
            title = f"{row['image']} {row['codec']} {aim_of(row)}"
            progress.update(bar, advance=1, description=title)

        yield on_row


def _report(
    table: Table,
    out: Path,
    json: str | None,
    anchor: str | None,
    reference: Path | None,
    plot: bool,
) -> None:
    from rich.console import Console

    from toolkit_evaluation.results.terminal import print_table

    if json == "-":
        sys.stdout.buffer.write(table.to_json())
        sys.stdout.buffer.flush()
    else:
        wide = None if sys.stdout.isatty() else 160
        print_table(Console(width=wide), table, table.bd_rates(anchor))
    if json not in (None, "-"):
        from toolkit.format.files import write_bytes_atomically

        write_bytes_atomically(Path(str(json)), table.to_json())
    if plot and any(row["status"] == "ok" for row in table.rows):
        _plot(table, out, reference)


def _plot(table: Table, out: Path, reference: Path | None) -> None:
    from toolkit_evaluation.report.figure import rate_distortion_figure, save
    from toolkit_evaluation.results.reference import references_for

    default = os.environ.get("TOOLKIT_REFERENCE")
    references = references_for(table, reference, Path(default) if default else None)
    figure = rate_distortion_figure(table, references)
    for suffix in ("png", "svg"):
        save(figure, out / f"rate-distortion.{suffix}")
    say(f"curves: {out / 'rate-distortion.png'} and .svg; rows: {out / 'rows.jsonl'}")


def register(app: typer.Typer) -> None:
    app.command("eval")(evaluate)
