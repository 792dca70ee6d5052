"""``toolkit plugins``: every plugin, where it is from, and what it provides."""

from __future__ import annotations

from dataclasses import asdict

import typer

from toolkit.cli import print_json, session
from toolkit.cli.options import JsonFlag


def plugins(json: JsonFlag = False) -> None:
    """List the plugins: name, origin, status, what each provides."""
    records = session().plugins.records
    if json:
        print_json([asdict(record) for record in records])
        return
    for record in records:
        print(f"{record.name} ({record.origin}): {record.error or 'ok'}")
        for item in record.provides:
            print(f"    {item}")


def register(app: typer.Typer) -> None:
    app.command()(plugins)
