"""``toolkit bench sizes``: time and memory of coding pictures of several sizes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli import session
from toolkit.cli.options import MaxMemory, MaxPixels
from toolkit.cli.progress import progress
from toolkit.errors import UsageError

if TYPE_CHECKING:
    from toolkit_evaluation.run.sizes import SizeRow

FAILED = 5


def sizes(
    codec: Annotated[
        list[str], typer.Option("--codec", help="A preset; may be repeated. See `presets`.")
    ],
    megapixels: Annotated[
        str, typer.Option(metavar="N,N...", help="Sizes in 10^6 pixels, commas between them.")
    ] = "1,12",
    threads: Annotated[int, typer.Option(min=1, help="Threads of each process.")] = 1,
    max_pixels: MaxPixels = None,
    max_memory: MaxMemory = None,
    json: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Write the rows as JSON.")
    ] = None,
) -> None:
    """Time and peak memory of `encode` and `decode` by the size of the picture.

    Each command runs in a process of its own. Exit status 5 if any failed. What was measured
    until Ctrl-C is printed.
    """
    from rich.console import Console

    from toolkit.cli.bench import write_json
    from toolkit_evaluation.run.sizes import measure_sizes, sizes_json, sizes_table

    for name in codec:
        session().registry.preset(name)
    found = _sizes(megapixels)
    arguments: list[str] = []
    if max_pixels is not None:
        arguments += ["--max-pixels", str(max_pixels)]
    if max_memory is not None:
        arguments += ["--max-memory", max_memory]
    for file in session().plugin_files:
        arguments += ["--plugin", str(file)]
    if session().registry_file is not None:
        arguments += ["--registry", str(session().registry_file)]
    rows: list[SizeRow] = []
    try:
        with progress(2 * len(codec) * len(found), "rows") as step:
            for row in measure_sizes(codec, found, threads, arguments):
                rows.append(row)
                step(f"{row.command} {row.preset} {row.megapixels:g}")
    finally:
        if rows:
            write_json(sizes_json(rows), json)
            if json != "-":
                Console(width=None if sys.stdout.isatty() else 160).print(sizes_table(rows))
    if any(row.error is not None for row in rows):
        raise typer.Exit(FAILED)


def _sizes(text: str) -> list[float]:
    """Raises UsageError."""
    try:
        found = [float(size) for size in text.split(",")]
    except ValueError:
        found = [0.0]
    if not all(1e-6 <= size <= 1000 for size in found):
        raise UsageError(f"--megapixels {text}: numbers up to 1000, commas between them")
    return found
