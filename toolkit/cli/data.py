"""``toolkit data``: fetching data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def data(
    name: Annotated[str, typer.Argument(help="The data set: kodak.")],
    source: Annotated[
        Path | None, typer.Option("--from", help="Take the files from this folder.")
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option(
            "--to", help="Folder to put them in; default: the cache, where `kodak` looks."
        ),
    ] = None,
) -> None:
    """Fetch or import a data set, every image checked against its published pixels."""
    from toolkit.cli.progress import progress
    from toolkit.errors import UnknownName
    from toolkit_evaluation.data.kodak import NAMES, fetch_kodak

    if name != "kodak":
        raise UnknownName("data set to fetch", name, ["kodak"])
    with progress(len(NAMES), "images") as step:
        folder = fetch_kodak(target, source, step)
    print(f"{folder}: {len(NAMES)} images, checked")


def register(app: typer.Typer) -> None:
    app.command("data")(data)
