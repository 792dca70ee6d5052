"""``toolkit metrics``: all metrics, their units, and what they need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from toolkit.cli import session
from toolkit.cli.listing import print_specs
from toolkit.cli.options import JsonFlag, ListedName

if TYPE_CHECKING:
    from toolkit.plugin.specs import MetricSpec


def metrics(name: ListedName = None, json: JsonFlag = False) -> None:
    """List the metrics that `eval --metric` takes."""
    print_specs(session().plugins.metrics, name, None, _record, _cells, json)


def _record(spec: MetricSpec) -> dict[str, Any]:
    return {"unit": spec.unit, "higher_is_better": spec.higher_is_better}


def _cells(spec: MetricSpec) -> tuple[str, ...]:
    return spec.unit, "higher is better" if spec.higher_is_better else "lower is better"


def register(app: typer.Typer) -> None:
    app.command()(metrics)
