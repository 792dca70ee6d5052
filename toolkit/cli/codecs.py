"""``toolkit codecs``: all codecs, what they need, and whether it is there."""

from __future__ import annotations

import typer

from toolkit.cli import print_json, session
from toolkit.cli.options import JsonFlag


def codecs(json: JsonFlag = False) -> None:
    """List the codecs with their rate parameter and what they need."""
    specs = session().plugins.codecs.values()
    if json:
        print_json(
            [
                {
                    "name": s.name, "summary": s.summary,
                    "rate_parameter": s.rate_parameter.name,
                    "low": s.rate_parameter.low, "high": s.rate_parameter.high,
                    "suffix": s.suffix, "needs": s.needs,
                    "missing": s.missing(), "unavailable_reason": s.unavailable_reason(),
                    "reference": s.reference,
                }
                for s in specs
            ]
        )  # fmt: skip
        return
    width = max(len(s.name) for s in specs)
    for s in specs:
        reason = s.unavailable_reason()
        note = f"  [{reason}]" if reason else ""
        parameter = s.rate_parameter
        points = f"{parameter.name} {parameter.low:g} to {parameter.high:g}"
        print(f"{s.name:{width}}  {s.suffix:5}  {points:20}  {s.summary}{note}")


def register(app: typer.Typer) -> None:
    app.command()(codecs)
