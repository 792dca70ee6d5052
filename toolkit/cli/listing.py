"""Listing what plugins provide, each with its options: codecs, models, samplers, metrics."""

from __future__ import annotations

import json as json_text
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from toolkit.cli import print_json
from toolkit.cli.columns import print_columns
from toolkit.errors import UnknownName, UsageError
from toolkit.packages import install_command

if TYPE_CHECKING:
    from toolkit.option_docs import OptionDoc
    from toolkit.options import Options
    from toolkit.plugin.specs import Spec

S = TypeVar("S", bound="Spec")
Groups = Mapping[str, "type[Options]"]
"""Heading -> class of options."""


def print_specs(
    table: Mapping[str, S],
    name: str | None,
    options: Callable[[S], Groups] | None,
    record: Callable[[S], dict[str, Any]],
    cells: Callable[[S], tuple[str, ...]],
    json: bool,
) -> None:
    """Print descriptors, all or the one of that name.

    Arguments:
        options: gives the classes of a thing's options, where they are to be printed.
        record: what is special of its kind, for JSON.
        cells: the same for people, between name and summary.

    Raises:
        UnknownName: nothing has this name.
        UsageError: options are wanted, and no name was given.
    """
    from toolkit.option_docs import option_docs

    if options is not None and name is None:
        raise UsageError("--options is told of one: name it")
    if name is not None and name not in table:
        kind = next(iter(table.values())).kind if table else "such thing"
        raise UnknownName(kind, name, table)
    specs = list(table.values()) if name is None else [table[name]]
    groups = {} if options is None else options(specs[0])
    documents = {heading: option_docs(cls) for heading, cls in groups.items()}
    if json:
        records = [{**_record(spec), **record(spec)} for spec in specs]
        for heading, docs in documents.items():
            records[0][heading] = [doc.to_dict() for doc in docs]
        print_json(records if name is None else records[0])
        return
    print_columns([(spec.name, *cells(spec), f"{spec.summary}{_state(spec)}") for spec in specs])
    _print_extras(specs)
    for heading, docs in documents.items():
        print(f"\n{heading}:" if docs else f"\n{heading}: none")
        _print_options(docs)


def _record(spec: Spec) -> dict[str, Any]:
    return {
        "name": spec.name, "summary": spec.summary, "provider": spec.provider,
        "needs": spec.needs, "missing": spec.missing(), "install": spec.install_hint(),
        "reference": spec.reference,
    }  # fmt: skip


def _state(spec: Spec) -> str:
    from toolkit.plugin.specs import CodecSpec

    absent = spec.missing()
    if not absent:
        reason = spec.unavailable_reason() if isinstance(spec, CodecSpec) else ""
        return f" [{reason}]" if reason else ""
    extras = f"; extra {', '.join(names)}" if (names := spec.missing_extras()) else ""
    return f" [missing: {', '.join(absent)}{extras}]"


def _print_extras(specs: Iterable[Spec]) -> None:
    """The command that installs what descriptors miss, once for all."""
    extras = dict.fromkeys(name for spec in specs for name in spec.missing_extras())
    if extras:
        print(f"\n  Extras: {install_command(extras)}")


def _print_options(docs: list[OptionDoc]) -> None:
    for doc in docs:
        default = doc.default
        shown = default if isinstance(default, str) and default else json_text.dumps(default)
        print_columns([(doc.name, f"{doc.values}; default {shown}")], indent=2)
        if doc.about:
            print_columns([("", doc.about)], indent=4)
