"""``toolkit presets``: what the registry offers."""

from __future__ import annotations

import typer

from toolkit.cli import print_json, session
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
    print(f"presets of {registry.path}:")
    width = max(len(p.name) for p in found)
    for p in found:
        sweep = f"{len(p.sweep)} points, {min(p.sweep):g} to {max(p.sweep):g}" if p.sweep else ""
        print(f"  {p.name:{width}}  {p.codec:{width}}  {p.summary} ({sweep})")


def register(app: typer.Typer) -> None:
    app.command()(presets)
