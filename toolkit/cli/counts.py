"""``toolkit counts``: index counts of samplers, estimated on images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli import say, session
from toolkit.cli.options import OptionList
from toolkit.errors import UsageError


def counts(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGES...", help="Folders, files, or data sets: samples, kodak."),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FOLDER/NAME", help="Writes NAME-LEVEL.counts.json in FOLDER."),
    ],
    codec: Annotated[str, typer.Option(help="A preset whose sampler counts indices.")],
    option: OptionList = None,
    point: Annotated[
        list[float] | None, typer.Option(help="Instead of the preset's own; may be repeated.")
    ] = None,
    alpha: Annotated[
        float, typer.Option(min=1e-6, max=0.5, help="Share of what was never seen.")
    ] = 0.01,
) -> None:
    """Count on IMAGES how often each index of a sampler is sent, for an entropy coder.

    The sampler's option `counts` then takes NAME-LEVEL, from the folder $TOOLKIT_COUNTS.
    """
    from toolkit.cli.options import presets_with_options
    from toolkit.cli.progress import progress
    from toolkit.format.files import write_bytes_atomically
    from toolkit.plugin.presets import open_codec
    from toolkit.sampling.capabilities import sends_samples
    from toolkit.sampling.coding.counts import NAME, SUFFIX
    from toolkit_evaluation.data.datasets import find_images
    from toolkit_evaluation.samplers.index_counts import estimate_counts

    if not re.fullmatch(NAME, out.name):
        raise UsageError(f"--out {out}: '{out.name}' isn't a name of small letters and digits")
    (preset,) = presets_with_options(session().registry, [codec], option)
    opened = open_codec(session().plugins, preset)
    if not sends_samples(opened):
        raise UsageError(f"--codec {codec}: codec '{preset.codec}' sends no samples")
    found = {image.name: image.path for image in find_images(images)}
    with progress(len(found), "images") as step:
        tables = estimate_counts(opened, found, point or preset.sweep, alpha, step)
    out.parent.mkdir(parents=True, exist_ok=True)
    for level, table in tables.items():
        path = out.with_name(f"{out.name}-{level}{SUFFIX}")
        write_bytes_atomically(path, table.to_json())
        say(f"{path}: {table.table.sum()} indices of {table.source}")


def register(app: typer.Typer) -> None:
    app.command()(counts)
