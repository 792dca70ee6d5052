"""``toolkit presets``: what the registry offers."""

from __future__ import annotations

from itertools import groupby

import typer

from toolkit.cli import print_json, session
from toolkit.cli.columns import print_columns
from toolkit.cli.options import JsonFlag


def presets(json: JsonFlag = False) -> None:
    """List the presets and say which registry they come from."""
    registry = session().registry
    found = [registry.preset(name) for name in registry.names()]
    if json:
        rows = [
            {
                "name": p.name, "codec": p.codec, "options": p.options, "sweep": p.sweep,
                "summary": p.summary, "identity": p.identity, "source": p.source,
            }
            for p in found
        ]  # fmt: skip
        print_json({"registry": str(registry.path), "presets": rows})
        return
    width = max(len(p.name) for p in found)
    for origin, group in groupby(found, lambda p: _origin(p.source)):
        print(f"presets of {origin}:" if origin else "codecs that no preset is named after:")
        rows_of = []
        for p in group:
            low, high = (f"{end(p.sweep):g}" if p.sweep else "" for end in (min, max))
            points = f"{len(p.sweep)} points, {low} to {high}" if p.sweep else "no points"
            rows_of.append((p.name.ljust(width), f"{p.summary} (codec {p.codec}; {points})"))
        print_columns(rows_of, indent=2)


def _origin(source: str) -> str:
    """The file of ``file:line``; empty for a codec that is called by its own name."""
    file, colon, line = source.rpartition(":")
    return file if colon and line.isdigit() else ""


def register(app: typer.Typer) -> None:
    app.command()(presets)
