"""``toolkit eval``: rate and distortion of presets on images."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli import say, session
from toolkit.cli.options import Deterministic, DeviceOption, MaxMemory, MaxPixels, OptionList
from toolkit.cli.progress import progress
from toolkit.device import Device
from toolkit.errors import UsageError
from toolkit.packages import require

if TYPE_CHECKING:
    from toolkit_evaluation.results.table import Table
    from toolkit_evaluation.run.plan import Plan

DONE_WITH_FAILURES = 5


def evaluate(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGES...", help="Folders, files, or data sets: samples, kodak."),
    ],
    codec: Annotated[
        list[str],
        typer.Option("--codec", help="A preset, or several with commas; may be repeated."),
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
    device: DeviceOption = Device.cpu,
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
    deterministic: Deterministic = False,
    max_pixels: MaxPixels = None,
    max_memory: MaxMemory = None,
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
    from toolkit.format.limits import parse_size
    from toolkit_evaluation.results.row import METRICS
    from toolkit_evaluation.run.plan import plan
    from toolkit_evaluation.run.settings import EvaluationSettings

    require("eval", "bjontegaard", *([] if no_plot else ["matplotlib"]))
    if verify and keep_files is None:
        raise UsageError("--verify decodes the files that --keep-files keeps: name its folder")
    presets = presets_with_options(session().registry, codec, option)
    names = [preset.name for preset in presets]
    if anchor is not None and anchor not in names:
        raise UsageError(f"--anchor {anchor}: not among the codecs of this run")
    settings = EvaluationSettings(
        points=_points(point or [], names),
        target_bpp=target_bpp or (),
        target_psnr=target_psnr or (),
        metrics=tuple(dict.fromkeys((*METRICS, *(metric or ())))),
        out=out,
        keep_files=keep_files,
        device=device,
        workers=workers,
        threads=threads,
        timeout=timeout,
        repeat=repeat,
        retry_errors=retry_errors,
        scheduler=scheduler,
        separate=separate,
        deterministic=deterministic,
        max_pixels=max_pixels,
        max_memory=None if max_memory is None else parse_size(max_memory),
    )
    work = plan(presets, images, settings, session().plugins, notice=say)
    try:
        table = _run(work)
        failed = _verify(work, table) if verify else False
    except KeyboardInterrupt:
        say(f"interrupted; what was computed is in {out}, the same command goes on from there")
        raise SystemExit(130) from None
    _report(table, out, json, anchor, None if no_plot else reference, not no_plot)
    if table.failures or failed:
        raise typer.Exit(DONE_WITH_FAILURES)


def _run(work: Plan) -> Table:
    with progress(work.total, "rows") as step:
        work.on_row = lambda row, cached: step(f"{row.image} {row.codec} {row.point_label}")
        return work.run()


def _verify(work: Plan, table: Table) -> bool:
    """Whether any kept file failed; says how many were checked."""
    kept = sum(row.file is not None for row in table.rows)
    with progress(kept, "files") as step:
        work.on_row = lambda row, cached: step(f"{row.image} {row.codec} {row.point_label}")
        wrong = work.verify(table)
    for row in wrong:
        say(f"{row.image}, {row.codec} at {row.point:g}: {row.error}")
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


def _report(
    table: Table,
    out: Path,
    json: str | None,
    anchor: str | None,
    reference: Path | None,
    plot: bool,
) -> None:
    from rich.console import Console

    if json == "-":
        sys.stdout.buffer.write(table.to_json())
        sys.stdout.buffer.flush()
    else:
        wide = None if sys.stdout.isatty() else 80
        Console(width=wide).print(replace(table, anchor=anchor or table.anchor))
    if json not in (None, "-"):
        from toolkit.format.files import write_bytes_atomically

        write_bytes_atomically(Path(str(json)), table.to_json())
    if plot and any(row.ok for row in table.rows):
        _plot(table, out, reference)


def _plot(table: Table, out: Path, reference: Path | None) -> None:
    from toolkit_evaluation.results.figure import save
    from toolkit_evaluation.results.reference import references_for

    default = os.environ.get("TOOLKIT_REFERENCE")
    references = references_for(table.rows, reference, Path(default) if default else None)
    figure = table.figure(references)
    for suffix in ("png", "svg"):
        save(figure, out / f"rate-distortion.{suffix}")
    say(f"curves: {out / 'rate-distortion.png'} and .svg; rows: {out / 'rows.jsonl'}")


def register(app: typer.Typer) -> None:
    app.command("eval")(evaluate)
