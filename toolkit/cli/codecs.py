"""``toolkit codecs``: all codecs, what they need, and whether it is there."""

from __future__ import annotations

import typer

from toolkit.cli import print_json, session
from toolkit.cli.options import JsonFlag


def codecs(json: JsonFlag = False) -> None:
    """List the codecs with their knob and what they need."""
    specs = session().plugins.codecs.values()
    if json:
        print_json(
            [
                {
                    "name": s.name, "summary": s.summary, "knob": s.knob.name, "low": s.knob.low,
                    "high": s.knob.high, "suffix": s.suffix, "needs": s.needs,
                    "missing": s.missing(), "lacking": s.lacking(), "reference": s.reference,
                }
                for s in specs
            ]
        )  # fmt: skip
        return
    width = max(len(s.name) for s in specs)
    for s in specs:
        missing = s.missing()
        lacking = f"missing: {', '.join(missing)}" if missing else s.lacking()
        state = f"  [{lacking}]" if lacking else ""
        knob = f"{s.knob.name} {s.knob.low:g} to {s.knob.high:g}"
        print(f"{s.name:{width}}  {s.suffix:5}  {knob:20}  {s.summary}{state}")


def register(app: typer.Typer) -> None:
    app.command()(codecs)
