"""``toolkit models``: all entropy models, and what a recipe may set of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from toolkit.cli import session
from toolkit.cli.listing import print_specs
from toolkit.cli.options import JsonFlag, ListedName, ShowOptions

if TYPE_CHECKING:
    from toolkit.cli.listing import Groups
    from toolkit.plugin.specs import EntropyModelSpec


def models(name: ListedName = None, options: ShowOptions = False, json: JsonFlag = False) -> None:
    """List the entropy models that `toolkit train` trains; the options of one."""
    table = session().plugins.entropy_models
    print_specs(table, name, _options if options else None, _record, lambda spec: (), json)


def _options(spec: EntropyModelSpec) -> Groups:
    return {"options": spec.loaded.options_class}


def _record(spec: EntropyModelSpec) -> dict[str, Any]:
    shipped = sorted(file.stem for file in spec.weights_folder.glob("*.safetensors"))
    return {"codec": spec.codec, "weights": shipped}


def register(app: typer.Typer) -> None:
    app.command()(models)
