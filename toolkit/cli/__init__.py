"""The command ``toolkit``. One file a command; nothing heavy is imported before it is needed.

Exit status: 0 done; 2 usage or unknown name; 3 bad input file; 4 plugin, program or weights
missing; 5 finished with failures, or memory, disk or a reader gave out; 130 interrupted.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from toolkit.errors import ResourceError, ToolkitError
from toolkit.packages import extras_of, not_installed

if TYPE_CHECKING:
    from toolkit.plugin.loader import Plugins
    from toolkit.plugin.presets import Registry

FIRST = ("eval", "encode", "decode", "info")
"""Commands in the order in which help lists them; the others follow by name."""
HELPERS = {
    "batch", "bench_sizes", "columns", "formats", "listing", "options", "progress", "streams",
    "targets",
}  # fmt: skip
"""Modules beside the commands that are none."""
GLOBAL_OPTIONS = ("--plugin", "--registry")

app = typer.Typer(
    help="Image compression without quantization: codecs, coded samplers, evaluation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dataclass
class Session:
    """What this call of the program works with."""

    plugin_files: tuple[Path, ...] = ()
    registry_file: Path | None = None
    resources: ExitStack = field(default_factory=ExitStack)
    """What is given back when the call ends."""

    @cached_property
    def plugins(self) -> Plugins:
        """All plugins; those left out are reported on standard error, once."""
        from toolkit.plugin.loader import load_plugins

        plugins = load_plugins(self.plugin_files)
        for record in plugins.problems:
            say(f"plugin '{record.name}' ({record.origin}): {record.error}; left out")
        return plugins

    @cached_property
    def registry(self) -> Registry:
        """The presets; a registry that only lies about here is named, once."""
        from toolkit.plugin.presets import came_upon, load_registry

        registry = load_registry(self.plugins, self.registry_file)
        if self.registry_file is None and came_upon(registry.path):
            say(f"presets of {registry.path} come first; --registry names another file")
        return registry


_session = Session()


def session() -> Session:
    """This call's session."""
    return _session


def say(text: str) -> None:
    """A line on standard error."""
    print(f"toolkit: {text}", file=sys.stderr, flush=True)


@contextmanager
def busy(text: str) -> Iterator[None]:
    """A sign of life on standard error while something takes its time, on a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(text):
        yield


def tell(text: str, aside: bool = False) -> None:
    """A line of output; ``aside``: on standard error, where standard output has the data."""
    print(text, file=sys.stderr if aside else sys.stdout)


def print_json(value: Any, aside: bool = False) -> None:
    """Machine-readable output; ``aside`` as in ``tell``."""
    tell(json.dumps(value, indent=2), aside)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("compression-without-quantization"))
        raise typer.Exit


@app.callback()
def _global_options(
    plugin: Annotated[
        list[Path] | None,
        typer.Option(help="A plugin in a single file; may be repeated, anywhere in the line."),
    ] = None,
    registry: Annotated[
        Path | None,
        typer.Option(help="A file of presets beside those that ship; anywhere in the line."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    global _session
    _session = Session(tuple(plugin or ()), registry)


def _hoist(arguments: list[str]) -> list[str]:
    """Global options moved to the front, so that they may stand behind the command, too."""
    front: list[str] = []
    rest: list[str] = []
    at = 0
    while at < len(arguments):
        argument = arguments[at]
        if argument == "--":
            rest += arguments[at:]
            break
        if argument in GLOBAL_OPTIONS and at + 1 < len(arguments):
            front += arguments[at : at + 2]
            at += 1
        elif argument.startswith(tuple(f"{name}=" for name in GLOBAL_OPTIONS)):
            front.append(argument)
        else:
            rest.append(argument)
        at += 1
    return front + rest


@cache
def _register_commands() -> None:
    """Put every command into ``app``, once: ``main`` may be called many times in one process."""
    modules = {module.name for module in pkgutil.iter_modules(__path__)} - HELPERS
    for name in [*FIRST, *sorted(modules - set(FIRST))]:
        if name in modules:
            importlib.import_module(f"toolkit.cli.{name}").register(app)


def main() -> None:
    """Entry point: a ToolkitError becomes one line and its exit status."""
    _register_commands()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # names of files that aren't UTF-8 must be printable
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        try:
            app(_hoist(sys.argv[1:]))
        finally:
            session().resources.close()
            if sys.stdout is not None:
                sys.stdout.flush()
    except ToolkitError as error:
        _leave(" ".join(str(error).split()), error.exit_status)
    except KeyboardInterrupt:
        _leave("interrupted", 130)
    except MemoryError:
        _leave("out of memory", ResourceError.exit_status)
    except ModuleNotFoundError as error:
        if not extras_of([error.name or ""]):
            raise
        missing = not_installed("this", [str(error.name)])
        _leave(str(missing), missing.exit_status)
    except SystemExit as stop:
        if not isinstance(stop.__context__, BrokenPipeError):
            raise
        raise SystemExit(0) from None
    except BrokenPipeError:
        # whoever read our output has enough; keep Python from complaining at exit
        sys.stdout = None
        raise SystemExit(0) from None
    except OSError as error:
        if not error.errno:
            raise
        place = f"{error.filename}: " if error.filename else ""
        sys.stdout = None  # what it still holds can't be written
        _leave(f"{place}{error.strerror}", ResourceError.exit_status)


def _leave(text: str, status: int) -> NoReturn:
    with suppress(OSError):
        say(text)
    raise SystemExit(status) from None
