"""``toolkit bench``: measuring parts of codecs."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from toolkit.cli import say, session
from toolkit.cli.options import OptionList
from toolkit.cli.progress import progress
from toolkit.errors import MissingError, UsageError
from toolkit.packages import require

if TYPE_CHECKING:
    from toolkit.plugin.presets import Preset
    from toolkit_evaluation.samplers.bench import Contender, SamplerBench

bench = typer.Typer(help="Measure parts of codecs.", no_args_is_help=True)


@bench.callback()
def _bench() -> None:
    """Measure parts of codecs."""


@bench.command("samplers")
def samplers(
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="[IMAGES...]", help="Folders, files, or data sets: samples, kodak."),
    ] = None,
    codec: Annotated[
        list[str] | None,
        typer.Option(
            "--codec",
            help="Presets, with commas; may be repeated. Default: all that send samples.",
        ),
    ] = None,
    option: OptionList = None,
    sampler: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[,KEY=VALUE...]",
            help="A sampler, used on every level of the latents of the first codec.",
        ),
    ] = None,
    point: Annotated[
        list[float] | None, typer.Option(help="Instead of the presets' own; may be repeated.")
    ] = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Synthetic latents instead of images'.")
    ] = False,
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="SIDE,SIDE...",
            help="Time and memory on synthetic latents of square pictures: sides in pixels.",
        ),
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Runs; the fastest counts.")] = 1,
    no_psnr: Annotated[
        bool, typer.Option("--no-psnr", help="Don't code whole images to see the PSNR lost.")
    ] = False,
    json: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Write means and rows as JSON.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw J over time, a .png or .svg file.")
    ] = None,
    by_level: Annotated[
        bool, typer.Option("--by-level", help="Also a table of each level by itself.")
    ] = False,
) -> None:
    """Compare coded samplers on latents: bits, J, PSNR lost, time and memory."""
    from toolkit_evaluation.samplers.bench import SYNTHETIC_POINTS, SamplerBench

    if plot is not None:
        require("--plot", "matplotlib")
    if sizes is not None:
        if images or synthetic or plot is not None or by_level or len(point or ()) > 1:
            raise UsageError(
                "--sizes goes without images, --synthetic, --plot, --by-level and a second --point"
            )
        _scaling(_contenders(codec, option, sampler), _sides(sizes), point, repeat, json)
        return
    if not synthetic and not images:
        raise UsageError("name images, or say --synthetic")
    if synthetic and images:
        raise UsageError("--synthetic goes without images")
    contenders = _contenders(codec, option, sampler)
    work = SamplerBench(
        contenders,
        {"synthetic": None} if synthetic else _pixels(images or []),
        tuple(point or (SYNTHETIC_POINTS if synthetic else ())),
        repeat=repeat,
        with_psnr=not no_psnr,
    )
    _report(work, _run(work), json, plot, by_level)


def _sides(text: str) -> list[int]:
    """Raises UsageError."""
    try:
        sides = [int(side) for side in text.split(",")]
    except ValueError:
        sides = [0]
    if not all(1 <= side <= 2**14 for side in sides):
        raise UsageError(f"--sizes {text}: sides in pixels, 1 to {2**14}, with commas between them")
    return sides


def _scaling(
    contenders: list[Contender],
    sides: list[int],
    points: list[float] | None,
    repeat: int,
    json: str | None,
) -> None:
    from rich.console import Console

    from toolkit_evaluation.samplers.scaling import (
        POINT,
        scaling_json,
        scaling_rows,
        scaling_table,
    )

    (point,) = points or [POINT]
    with progress(len(contenders) * len(sides), "rows") as step:
        rows = scaling_rows(
            contenders,
            sides,
            point,
            repeat=repeat,
            on_row=lambda row: step(f"{row['preset']} {row['side']}"),
        )
    write_json(scaling_json(rows), json)
    if json != "-":
        Console(width=None if sys.stdout.isatty() else 160).print(scaling_table(rows))


def _contenders(
    names: list[str] | None, options: list[str] | None, samplers: list[str] | None
) -> list[Contender]:
    from toolkit.cli.options import presets_with_options

    presets = presets_with_options(session().registry, names or _presets_that_sample(), options)
    if not presets:
        raise UsageError("no preset whose codec sends samples: name one with --codec")
    alone = [_with_sampler(presets[0], text) for text in samplers or ()]
    if alone:  # a preset that only can send samples is there to be coded by these
        presets = [preset for preset in presets if _sends_samples(preset)] if names else []
    return [_contender(preset) for preset in (*presets, *alone)]


def _sends_samples(preset: Preset) -> bool:
    from toolkit.plugin.presets import open_codec
    from toolkit.sampling.capabilities import sends_samples

    return sends_samples(open_codec(session().plugins, preset))


def _contender(preset: Preset) -> Contender:
    from toolkit.plugin.presets import open_codec
    from toolkit.sampling.capabilities import SendsSamples, sends_samples
    from toolkit_evaluation.samplers.bench import Contender

    codec = open_codec(session().plugins, preset)
    if not sends_samples(codec):
        hint = " with these options; a --sampler would" if isinstance(codec, SendsSamples) else ""
        raise UsageError(f"--codec {preset.name}: codec '{preset.codec}' sends no samples{hint}")
    return Contender(preset.name, cast(Any, codec), preset.sweep)


def _with_sampler(preset: Preset, text: str) -> Preset:
    """``preset`` with the sampler that ``text`` describes on every level."""
    from toolkit.plugin.presets import open_codec, parse_override
    from toolkit.sampling.capabilities import SendsSamples

    name, *pairs = text.split(",")
    values = {"sampler": name, **dict(parse_override(pair) for pair in pairs)}
    codec: object = open_codec(session().plugins, preset)
    if not isinstance(codec, SendsSamples):
        raise UsageError(f"--codec {preset.name}: codec '{preset.codec}' sends no samples")
    return replace(
        preset, name=text, options={**preset.options, **codec.options_with_sampler(values)}
    )


def _presets_that_sample() -> list[str]:
    """Names of the written presets whose codec sends samples; none of what isn't installed, nor
    of models whose weights aren't here."""
    from toolkit.plugin.presets import open_codec

    registry = session().registry
    found: list[str] = []
    for name in registry.names(written=True):
        with suppress(MissingError):
            if _sends_samples(registry.preset(name)):
                open_codec(session().plugins, registry.preset(name)).identity()
                found.append(name)
    return found


def _pixels(images: list[str]) -> dict[str, Any]:
    from toolkit.codec.base import as_pixels
    from toolkit_evaluation.data.datasets import find_images

    return {image.name: as_pixels(image.path) for image in find_images(images)}


def _run(work: SamplerBench) -> list[dict[str, Any]]:
    with progress(work.total, "rows") as step:
        return work.run(lambda row: step(f"{row['image']} {row['preset']} {row['point']:g}"))


def _report(
    work: SamplerBench,
    means: list[dict[str, Any]],
    json: str | None,
    plot: Path | None,
    by_level: bool,
) -> None:
    from rich.console import Console

    from toolkit_evaluation.results.figure import save
    from toolkit_evaluation.samplers.report import level_table, merit_figure, sampler_table, to_json

    write_json(to_json(means, work.rows), json)
    if json != "-":
        console = Console(width=None if sys.stdout.isatty() else 160)
        console.print(sampler_table(means))
        if by_level:
            console.print()
            console.print(level_table(means))
    if plot is not None:
        save(merit_figure(means), plot)
        say(f"plot in {plot}")


def write_json(data: bytes, json: str | None) -> None:
    """To a file, or to standard output for ``-``."""
    from toolkit.format.files import write_bytes_atomically

    if json == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    elif json is not None:
        write_bytes_atomically(Path(json), data)


def register(app: typer.Typer) -> None:
    from toolkit.cli.bench_sizes import sizes

    bench.command("sizes")(sizes)
    app.add_typer(bench, name="bench")
