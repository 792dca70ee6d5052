"""``toolkit samplers``: all coded samplers and their options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from toolkit.cli import session
from toolkit.cli.listing import print_specs
from toolkit.cli.options import JsonFlag, ListedName, ShowOptions

if TYPE_CHECKING:
    from toolkit.cli.listing import Groups
    from toolkit.plugin.specs import SamplerSpec


def samplers(name: ListedName = None, options: ShowOptions = False, json: JsonFlag = False) -> None:
    """List the samplers; the options of one."""
    table = session().plugins.samplers
    print_specs(table, name, _options if options else None, _record, lambda spec: (), json)


def _options(spec: SamplerSpec) -> Groups:
    from toolkit.sampling.choice import CommonOptions

    return {"options": spec.loaded.options_class, "options of every sampler": CommonOptions}


def _record(spec: SamplerSpec) -> dict[str, Any]:
    return {"tag": spec.tag}


def register(app: typer.Typer) -> None:
    app.command()(samplers)
