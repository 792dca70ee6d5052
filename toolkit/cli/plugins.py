"""``toolkit plugins``: every plugin, where it is from, and what it provides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli import busy, print_json, session
from toolkit.cli.options import JsonFlag

if TYPE_CHECKING:
    from toolkit.plugin.loader import PluginRecord, Plugins
    from toolkit.plugin.specs import Spec

DONE_WITH_FAILURES = 5


@dataclass
class _Checked:
    """What ``--check`` found about the parts of a plugin."""

    broken: dict[str, str] = field(default_factory=dict)
    """Kind and name of a part -> why it can't be used."""
    missing: dict[str, str] = field(default_factory=dict)
    """The same of parts whose programs or packages aren't installed: nobody's fault."""


def plugins(
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Load all that they provide; exit status 5 where anything is broken."
        ),
    ] = False,
    json: JsonFlag = False,
) -> None:
    """List the plugins: name, origin, status, what each provides."""
    found = session().plugins
    checked: dict[int, _Checked] = {}
    if check:
        with busy("loading"):
            checked = {id(record): _check(found, record) for record in found.records}
    if json:
        parts = {i: asdict(value) for i, value in checked.items()}
        print_json([{**asdict(r), **parts.get(id(r), {})} for r in found.records])
    else:
        for record in found.records:
            _print(record, checked.get(id(record), _Checked()))
    if check and (found.problems or any(c.broken for c in checked.values())):
        raise typer.Exit(DONE_WITH_FAILURES)


def _print(record: PluginRecord, checked: _Checked) -> None:
    status = record.error or (f"{len(checked.broken)} broken" if checked.broken else "ok")
    print(f"{record.name} ({record.origin}): {status}")
    for item in record.provides:
        problem = checked.broken.get(item) or checked.missing.get(item)
        print(f"    {item}: {problem}" if problem else f"    {item}")


def _check(found: Plugins, record: PluginRecord) -> _Checked:
    """Load everything that a plugin provides."""
    from toolkit.errors import ToolkitError

    checked = _Checked()
    provider = f"{record.name} ({record.origin})"
    for item, spec in _parts(found, provider):
        if absent := spec.missing():
            checked.missing.setdefault(item, f"needs {', '.join(absent)}: not installed")
            continue
        try:
            _ = spec.loaded
        except ToolkitError as error:  # says which plugin and part it is about; so does the list
            where = f"plugin {provider}: {spec.kind} '{spec.name}': "
            checked.broken[item] = str(error).removeprefix(where).removeprefix(f"'{spec.name}' ")
        except BaseException as error:  # a module may raise anything, SystemExit too
            if isinstance(error, KeyboardInterrupt):
                raise
            checked.broken[item] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    for item in record.provides:
        kind, _, path = item.partition(" ")
        if kind == "presets" and not Path(path).is_file():
            checked.broken[item] = "no such file"
    return checked


def _parts(found: Plugins, provider: str) -> Iterator[tuple[str, Spec]]:
    """Each descriptor of a plugin, by the name under which it is listed; that of the codec that
    comes with an entropy model under the model's."""
    tables = (found.codecs, found.entropy_models, found.samplers, found.metrics)
    for table in tables:
        for spec in table.values():
            if spec.provider == provider:
                model = getattr(spec, "model", None)
                yield f"{(model or spec).kind} {spec.name}", spec


def register(app: typer.Typer) -> None:
    app.command()(plugins)
