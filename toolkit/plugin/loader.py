"""Finding plugins: built-ins, entry points (group ``toolkit.plugins``) and single files.

Each is loaded alone. One that raises, has a hook with a wrong name or argument, yields what is
no descriptor or claims a name that is taken is reported with its origin, and everything else
works.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pluggy

from toolkit.errors import MissingError, UnknownName
from toolkit.plugin import hookspecs
from toolkit.plugin.specs import (
    FILE_MODULE,
    CodecSpec,
    EntropyModelSpec,
    MetricSpec,
    PresetFile,
    SamplerSpec,
    Spec,
)

GROUP = "toolkit.plugins"

S = TypeVar("S", bound=Spec)


@dataclass
class PluginRecord:
    """A plugin that was found, and what became of it."""

    name: str
    origin: str
    """``built-in``, distribution and version, or the file."""
    error: str = ""
    """Why (part of) it was left out; empty if all is well."""
    provides: list[str] = field(default_factory=list)


class Plugins:
    """What all plugins together provide: dicts from name to descriptor."""

    def __init__(self, files: Sequence[Path] = ()) -> None:
        self.files = tuple(Path(file) for file in files)
        self.codecs: dict[str, CodecSpec] = {}
        self.entropy_models: dict[str, EntropyModelSpec] = {}
        self.samplers: dict[str, SamplerSpec] = {}
        self.metrics: dict[str, MetricSpec] = {}
        self.preset_files: list[PresetFile] = []
        self.records: list[PluginRecord] = []
        self._providers: dict[tuple[str, str], PluginRecord] = {}
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)

    def __repr__(self) -> str:
        kinds = (
            ("codecs", self.codecs),
            ("entropy models", self.entropy_models),
            ("samplers", self.samplers),
            ("metrics", self.metrics),
        )
        told = ", ".join(f"{len(specs)} {kind}" for kind, specs in kinds)
        left_out = f", {len(self.problems)} left out" if self.problems else ""
        return f"<plugins: {told}{left_out}>"

    def codec(self, name: str) -> CodecSpec:
        """The codec of this name. Raises UnknownName, as do the ones below."""
        return _look_up(self.codecs, "codec", name)

    def entropy_model(self, name: str) -> EntropyModelSpec:
        return _look_up(self.entropy_models, "entropy model", name)

    def sampler(self, name: str) -> SamplerSpec:
        return _look_up(self.samplers, "sampler", name)

    def metric(self, name: str) -> MetricSpec:
        return _look_up(self.metrics, "metric", name)

    def sampler_of_tag(self, tag: str) -> SamplerSpec:
        """The sampler that files name ``tag``."""
        return _look_up({spec.tag: spec for spec in self.samplers.values()}, "sampler", tag)

    @property
    def problems(self) -> list[PluginRecord]:
        """Plugins that were left out, wholly or in part."""
        return [record for record in self.records if record.error]

    # -- loading ---------------------------------------------------------------

    def add(self, name: str, origin: str, load: Callable[[], Any]) -> None:
        """Load one plugin and take in what it provides; failures end in its record."""
        record = PluginRecord(name, origin)
        self.records.append(record)
        try:
            module = load()
            self.manager.register(module, name=f"{name} ({origin})")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may raise anything, SystemExit too
            record.error = _one_line(error)
            return
        strangers = [
            caller.name
            for caller in self.manager.get_hookcallers(module) or []
            if not caller.has_spec()
        ]
        if strangers:
            self.manager.unregister(module)
            record.error = f"no hook is called {', '.join(sorted(strangers))}"
            return
        for hook, expected in _YIELDING.items():
            self._take_in(record, module, hook, expected)

    def _take_in(self, record: PluginRecord, module: Any, hook: str, expected: type[Any]) -> None:
        implementation = getattr(module, hook, None)
        if implementation is None or not getattr(implementation, "toolkit_impl", None):
            return
        try:
            for item in implementation() or ():
                if not isinstance(item, expected):
                    raise TypeError(f"{hook} yielded {item!r}, which is no {expected.__name__}")
                self._store(record, item)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # as above
            record.error = _one_line(error)

    def _store(self, record: PluginRecord, item: Any) -> None:
        if isinstance(item, PresetFile):
            self.preset_files.append(item)
            record.provides.append(f"presets {item.path}")
            return
        item = replace(item, provider=f"{record.name} ({record.origin})")
        coded = [item.codec_spec] if isinstance(item, EntropyModelSpec) else []
        for spec in (item, *coded):
            owner = self._providers.get((spec.kind, spec.name))
            if owner is not None:
                by = f"{owner.name} ({owner.origin})"
                raise ValueError(f"{spec.kind} '{spec.name}' is provided by {by} already")
        if problem := item.problem_if_imported():
            raise TypeError(problem)
        self._check_tag(item)
        for spec in (item, *coded):
            self._providers[spec.kind, spec.name] = record
            self._tables[type(spec)][spec.name] = spec
        record.provides.append(f"{item.kind} {item.name}")

    def _check_tag(self, item: Any) -> None:
        for other in self.samplers.values() if isinstance(item, SamplerSpec) else ():
            if other.tag == item.tag:
                raise ValueError(f"sampler '{item.name}': tag '{item.tag}' is {other.name}'s")

    @property
    def _tables(self) -> dict[type[Spec], dict[str, Any]]:
        return {
            CodecSpec: self.codecs,
            EntropyModelSpec: self.entropy_models,
            SamplerSpec: self.samplers,
            MetricSpec: self.metrics,
        }


_YIELDING: dict[str, type[Any]] = {
    "toolkit_codecs": CodecSpec,
    "toolkit_entropy_models": EntropyModelSpec,
    "toolkit_samplers": SamplerSpec,
    "toolkit_metrics": MetricSpec,
    "toolkit_presets": PresetFile,
}


def _look_up(table: dict[str, S], kind: str, name: str) -> S:
    if name not in table:
        raise UnknownName(kind, name, table)
    return table[name]


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


_FILES: dict[str, tuple[bytes, ModuleType]] = {}
"""Modules of single files by name, each with what its file held when it was loaded."""


def module_name(path: Path) -> str:
    """The name of the module that a plugin's file is loaded as: the same in every process, another
    for another file, be it called the same."""
    digest = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:8]
    return f"{FILE_MODULE}{re.sub(r'[^A-Za-z0-9_]', '_', path.stem)}_{digest}"


def _load_file(path: Path) -> Any:
    """The module of a file: the one that is there, unless the file changed since.

    Loaded twice, its classes would be there twice, and a pickle would refuse those of before.
    """
    name, source = module_name(path), path.read_bytes()
    known = _FILES.get(name)
    if known is not None and known[0] == source and sys.modules.get(name) is known[1]:
        return known[1]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise MissingError("not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: descriptors name it as their factory's module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    _FILES[name] = (source, module)
    return module


def _entry_points() -> Iterable[tuple[str, str, Callable[[], Any]]]:
    for point in importlib.metadata.entry_points(group=GROUP):
        origin = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
        yield point.name, origin, point.load


def load_plugins(files: Sequence[Path] = ()) -> Plugins:
    """All plugins: built-ins, then entry points, then ``files``.

    A file that is named twice is loaded once. Raises MissingError if a file is not there;
    everything else that can be wrong with a plugin is in ``Plugins.problems``.
    """
    plugins = Plugins(files)
    for name, module in _built_ins():
        plugins.add(name, "built-in", partial(importlib.import_module, module))
    for name, origin, load in _entry_points():
        plugins.add(name, origin, load)
    for file in {file.resolve(): file for file in plugins.files}.values():
        if not file.is_file():
            raise MissingError(f"{file}: no such plugin file")
        plugins.add(file.stem, str(file), partial(_load_file, file))
    return plugins


@cache
def installed_plugins() -> Plugins:
    """Built-ins and entry points, loaded once in a process: for functions that are given none.

    To find and read what is installed takes longer than to decode a small file.
    """
    return load_plugins()


def _built_ins() -> Iterable[tuple[str, str]]:
    """Name and module of the plugins that come along: packages with hooks, and the harness."""
    package = importlib.import_module("toolkit_plugins")
    for found in pkgutil.iter_modules(package.__path__):
        module = f"{package.__name__}.{found.name}"
        if _has_hooks(importlib.import_module(module)):
            yield found.name, module
    yield "evaluation", "toolkit_evaluation"


def _has_hooks(module: Any) -> bool:
    return any(hasattr(value, f"{hookspecs.PROJECT}_impl") for value in vars(module).values())
