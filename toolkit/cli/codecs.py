"""``toolkit codecs``: all codecs, what they need, whether it is there, and their options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from toolkit.cli import session
from toolkit.cli.listing import print_specs
from toolkit.cli.options import JsonFlag, ListedName, ShowOptions

if TYPE_CHECKING:
    from toolkit.cli.listing import Groups
    from toolkit.plugin.specs import CodecSpec


def codecs(name: ListedName = None, options: ShowOptions = False, json: JsonFlag = False) -> None:
    """List the codecs with their rate parameter and what they need; the options of one."""
    table = session().plugins.codecs
    print_specs(table, name, _options if options else None, _record, _cells, json)


def _options(spec: CodecSpec) -> Groups:
    groups = {"options": spec.loaded.options_class}
    if spec.model is not None and not spec.model.missing():
        encoder = getattr(spec.model.loaded, "encoder_options_class", None)
        if encoder is not None and encoder.__struct_fields__:
            groups["options of encoder"] = encoder
    return groups


def _record(spec: CodecSpec) -> dict[str, Any]:
    parameter = spec.rate_parameter
    return {
        "rate_parameter": parameter.name, "low": parameter.low, "high": parameter.high,
        "suffix": spec.suffix, "unavailable_reason": spec.unavailable_reason(),
    }  # fmt: skip


def _cells(spec: CodecSpec) -> tuple[str, ...]:
    parameter = spec.rate_parameter
    return spec.suffix, f"{parameter.name} {parameter.low:g} to {parameter.high:g}"


def register(app: typer.Typer) -> None:
    app.command()(codecs)
