"""``registry.yaml``: presets. A preset names a codec, its options and the sweep of its curve.

::

    presets:
      pln-isgs:
        summary: importance sampling on level 2, greedy on level 1
        codec: pln
        options: {levels: {default: {sampler: greedy}, level2: {sampler: importance}}}
        sweep: [0, 0.25, 0.5, 0.75, 1]
      pln-isgs-fast:
        extends: pln-isgs            # options are merged, key by key
        options: {levels: {level1: {bits: 8}}}

Unknown keys are errors with file, line and the nearest name. Looked for at ``--registry``,
``$TOOLKIT_REGISTRY``, ``registry.yaml`` here or in a folder above, and beside the package.

The presets of a file of one's own come on top of those that ship: a name that both have is the
file's. ``shipped: false`` in the file leaves those that ship out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from toolkit.device import resolve_device
from toolkit.errors import InputError, MissingError, UnknownName, UsageError
from toolkit.options import identity, parse_options
from toolkit.plugin.safe_yaml import MOST_CHARACTERS, compose, plain, shortened

if TYPE_CHECKING:
    from toolkit.codec.base import Codec
    from toolkit.plugin.loader import Plugins
    from toolkit.plugin.specs import CodecSpec

FILE = "registry.yaml"
KEYS = ("summary", "codec", "extends", "options", "sweep")


@dataclass(frozen=True)
class Preset:
    """A codec with options and the points of its rate-distortion curve."""

    name: str
    codec: str
    options: dict[str, Any]
    sweep: tuple[float, ...]
    summary: str = ""
    source: str = ""
    """``file:line`` it was read from."""

    @property
    def identity(self) -> str:
        """Hash of codec and options; name, summary and sweep don't change a result."""
        return identity([self.codec, self.options])


@dataclass(frozen=True)
class _Raw:
    """A preset as written, before ``extends``."""

    name: str
    values: dict[str, Any]
    source: str
    written: bool = True
    """Whether it is in a file: not a codec that is called by its own name."""


class Registry:
    """Presets by name, resolved when asked for."""

    def __init__(self, raw: dict[str, _Raw], path: Path, default: str | None = None) -> None:
        self._raw = raw
        self.path = path
        self._default = default

    @property
    def default(self) -> str:
        """The preset that is meant where none is named. Raises UsageError where the file has
        none."""
        if self._default is None:
            raise UsageError(f"{self.path}: no default preset: name one with --codec")
        return self._default

    def names(self, written: bool = False) -> list[str]:
        """Of all presets, or of those that are ``written`` in a file alone."""
        return [name for name, raw in self._raw.items() if raw.written or not written]

    def preset(self, name: str, overrides: Mapping[str, Any] | None = None) -> Preset:
        """The preset, ``overrides`` (dotted option names to values) merged into its options.

        Raises UnknownName, or UsageError for presets that extend in a circle or lack a codec.
        """
        preset = self._resolve(name, ())
        options = preset.options
        for key, value in (overrides or {}).items():
            options = merge(options, _nested(key.split("."), value))
        return replace(preset, options=options)

    def _resolve(self, name: str, above: tuple[str, ...]) -> Preset:
        if name not in self._raw:
            where = self._raw[above[-1]].source if above else ""
            raise UnknownName("preset", name, self._raw, where)
        raw = self._raw[name]
        if name in above:
            raise UsageError(f"{raw.source}: presets extend in a circle: {' > '.join(above)}")
        values = raw.values
        base = Preset(name, "", {}, ())
        if "extends" in values:
            base = self._resolve(values["extends"], (*above, name))
        codec = values.get("codec", base.codec)
        if not codec:
            raise UsageError(f"{raw.source}: preset '{name}' names no codec")
        return Preset(
            name,
            codec,
            merge(base.options, values.get("options", {})),
            tuple(values.get("sweep", base.sweep)),
            values.get("summary", base.summary),
            raw.source,
        )


def merge(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """``more`` laid over ``base``, mappings key by key, everything else replaced.

    A mapping that names another sampler replaces the old one whole: its options were the
    old sampler's.
    """
    result = dict(base)
    for key, value in more.items():
        old = result.get(key)
        if not isinstance(value, Mapping):
            result[key] = value
        elif isinstance(old, Mapping) and value.get("sampler", old.get("sampler")) == old.get(
            "sampler"
        ):
            result[key] = merge(old, value)
        else:
            result[key] = dict(value)
    return result


def _nested(path: list[str], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    assert isinstance(value, dict)
    return value


def parse_override(text: str) -> tuple[str, Any]:
    """``key.path=value``, the value read as YAML. Raises UsageError."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"'{text}': an option is written key.path=value")
    try:
        node = compose(value)
        return key.strip(), None if node is None else plain(node)
    except ValueError as error:
        raise UsageError(f"'{shortened(text)}': {error}") from None


def find_registry(path: Path | None = None) -> Path:
    """The registry file in use. Raises MissingError if one was named that isn't there."""
    named = path or (Path(p) if (p := os.environ.get("TOOLKIT_REGISTRY")) else None)
    if named is not None:
        if not named.is_file():
            raise MissingError(f"{named}: no such registry file")
        return named
    here = Path.cwd()
    for place in (*(folder / FILE for folder in (here, *here.parents)), *_shipped()):
        if place.is_file():
            return place
    raise MissingError(f"no {FILE} here, in a folder above or beside the installed package")


def _shipped() -> tuple[Path, Path]:
    """Where the registry that ships lies: in the package, or beside it in a working copy."""
    package = Path(__file__).parents[1]
    return package / FILE, package.parent / FILE


def came_upon(path: Path) -> bool:
    """Whether a registry is used only because it lies in this folder or one above it."""
    if os.environ.get("TOOLKIT_REGISTRY"):
        return False
    return path.resolve() not in [shipped.resolve() for shipped in _shipped()]


def load_registry(plugins: Plugins, path: Path | None = None) -> Registry:
    """The presets of the registry file, those that ship and those that plugins bring; a taken
    name stays taken."""
    found = find_registry(path)
    first = _read(found)
    raw, default = dict(first.presets), first.default
    if first.shipped and (shipped := _shipped_beside(found)):
        rest = _read(shipped)
        raw, default = {**rest.presets, **raw}, default or rest.default
    for file in plugins.preset_files:
        for name, preset in _read(Path(file.path)).presets.items():
            raw.setdefault(name, preset)
    for spec in plugins.codecs.values():
        raw.setdefault(spec.name, _without_preset(spec))
    return Registry(raw, found, default)


def _shipped_beside(path: Path) -> Path | None:
    """The registry that ships; None where it is the one at ``path`` or isn't there."""
    places = [place for place in _shipped() if place.is_file()]
    if not places or path.resolve() in [place.resolve() for place in places]:
        return None
    return places[0]


def _without_preset(spec: CodecSpec) -> _Raw:
    """What a codec that no preset is named after can be called by: its name, its defaults."""
    parameter = spec.rate_parameter
    sweep = [parameter.low + i / 4 * (parameter.high - parameter.low) for i in range(5)]
    values = {
        "summary": spec.summary,
        "codec": spec.name,
        "sweep": [round(point) for point in sweep] if parameter.integer else sweep,
    }
    return _Raw(spec.name, values, f"codec '{spec.name}'", written=False)


@dataclass(frozen=True)
class _File:
    """What a registry file says."""

    presets: dict[str, _Raw]
    default: str | None
    shipped: bool
    """Whether the presets that ship are there, too."""


def _read(path: Path) -> _File:
    """Raises InputError and UsageError."""
    try:
        with open(path, encoding="utf-8") as file:
            root = compose(file.read(MOST_CHARACTERS + 1))
    except (OSError, ValueError) as error:  # UnicodeDecodeError is one
        text = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(f"{path}: {text}") from None
    result: dict[str, _Raw] = {}
    words: dict[str, Any] = {"default": None, "shipped": True}
    for section, value in _items(root, path, "a registry"):
        if section in words:
            words[section] = plain(value)
            _check(section, words[section], _at(path, section))
            continue
        if section != "presets":
            raise UnknownName("section", section, [*words, "presets"], _at(path, section))
        for key, node in _items(value, path, "presets"):
            if key in result:
                raise UsageError(f"{_at(path, key)}: preset '{shortened(key)}' is there twice")
            result[str(key)] = _Raw(str(key), _preset_values(node, path), _at(path, key))
    return _File(result, words["default"], words["shipped"])


def _preset_values(node: yaml.Node, path: Path) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in _items(node, path, "a preset"):
        if key not in KEYS:
            raise UnknownName("key", key, KEYS, _at(path, key))
        try:
            values[key] = plain(value)
        except ValueError as error:
            raise UsageError(f"{_at(path, key)}: {key}: {error}") from None
        _check(key, values[key], _at(path, key))
    return values


def _check(key: str, value: Any, where: str) -> None:
    if key == "options" and not isinstance(value, dict):
        raise UsageError(f"{where}: options must be a mapping")
    if key == "shipped" and not isinstance(value, bool):
        raise UsageError(f"{where}: shipped must be true or false")
    if key in ("summary", "codec", "extends", "default") and not isinstance(value, str):
        raise UsageError(f"{where}: {key} must be text")
    if key == "sweep":
        numbers = isinstance(value, list) and all(
            isinstance(v, (int, float)) and not isinstance(v, bool) for v in value
        )
        if not numbers or not value:
            raise UsageError(f"{where}: sweep must be a list of numbers")


class _Key(str):
    """A key of a mapping that knows its line."""

    line = 0


def _items(node: yaml.Node | None, path: Path, what: str) -> list[tuple[_Key, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        where = f"{path}:{node.start_mark.line + 1}" if node is not None else str(path)
        raise UsageError(f"{where}: {what} must be a mapping")
    items = []
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or not key.value:
            raise UsageError(f"{path}:{line}: a key of {what} must be a name")
        name = _Key(key.value)
        name.line = line
        items.append((name, value))
    return items


def _at(path: Path, key: _Key) -> str:
    return f"{path}:{key.line}"


def open_codec(plugins: Plugins, preset: Preset, device: str = "cpu") -> Codec:
    """The preset's codec, its options checked, to run on ``device``.

    Raises UsageError before any weights load, MissingError for a device that isn't there.
    """
    spec = plugins.codec(preset.codec)
    cls = spec.loaded
    options = parse_options(cls.options_class, preset.options, f"preset '{preset.name}'")
    codec: Codec = cls(spec, options, plugins)
    codec.device = resolve_device(device)
    parameter = spec.rate_parameter
    for point in preset.sweep:
        if not parameter.low <= point <= parameter.high:
            raise UsageError(
                f"{preset.source}: {parameter.name} must be {parameter.low:g} to "
                f"{parameter.high:g}, not {point}"
            )
    return codec
