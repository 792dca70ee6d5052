"""Descriptors: what plugins yield from their hooks.

A descriptor is a few words about a thing and the place of its code. The code,
``factory="package.module:Name"``, is imported when the thing is first used, so that listing
everything is instant and a missing package harms only what needs it.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from toolkit.errors import MissingError

_NAME = re.compile(r"[a-z0-9][a-z0-9+._-]{0,39}")
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Spec:
    """Base of all descriptors."""

    name: str
    """Lower-case name, unique among its kind."""
    summary: str
    """One line for listings."""
    factory: str
    """``package.module:Name`` of the class or function, imported on first use."""
    needs: tuple[str, ...] = ()
    """Programs (``bpgenc``) and Python packages (``python:av``) without which it can't run."""
    reference: str = ""
    """Where it was published."""

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and _NAME.fullmatch(self.name)):
            raise ValueError(f"{type(self).__name__}: bad name {self.name!r}")
        if not (isinstance(self.factory, str) and _FACTORY.fullmatch(self.factory)):
            raise ValueError(
                f"{type(self).__name__} '{self.name}': factory must be 'package.module:Name', "
                f"not {self.factory!r}"
            )

    def missing(self) -> list[str]:
        """Those of ``needs`` that aren't there."""
        return [need for need in self.needs if not _present(need)]

    @cached_property
    def loaded(self) -> Any:
        """What ``factory`` names. Raises MissingError where it can't be had."""
        absent = self.missing()
        if absent:
            raise MissingError(f"'{self.name}' needs {', '.join(absent)}: not installed")
        module, _, attribute = self.factory.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, OSError) as error:
            raise MissingError(f"'{self.name}' can't be loaded: {error}") from error


def _present(need: str) -> bool:
    if need.startswith("python:"):
        try:
            return importlib.util.find_spec(need.removeprefix("python:")) is not None
        except (ImportError, ValueError):
            return False
    return shutil.which(need) is not None


@dataclass(frozen=True)
class Knob:
    """The one number of a codec that trades rate for quality: a point of its curve."""

    name: str
    low: float
    high: float
    integer: bool = False
    more_bits: str = "up"
    """``up`` where a larger value makes larger files, else ``down``."""


@dataclass(frozen=True)
class CodecSpec(Spec):
    """A codec; ``factory`` names a subclass of ``toolkit.codec.base.Codec``."""

    knob: Knob = field(default=Knob("quality", 0, 100))
    suffix: str = ".qf"
    """Of its files; ``.qf`` for the toolkit's container, else the format's own."""
    magic: tuple[tuple[int, bytes], ...] = ()
    """What files of a format of its own begin with: (offset, bytes), any of them."""
    state: str = ""
    """``package.module:function`` that tells, given the name, what else isn't there (weights); it
    must be quick. Empty where there is nothing to tell."""

    def lacking(self) -> str:
        """What ``state`` tells: one line, empty if all is there."""
        module, _, attribute = self.state.partition(":")
        return str(getattr(importlib.import_module(module), attribute)(self.name)) if module else ""


@dataclass(frozen=True)
class EntropyModelSpec(Spec):
    """A trainable network with a prior; ``factory`` names an ``nn.Module`` class with an
    ``Options`` class in its attribute ``options_class`` and a ``training_pass``."""


@dataclass(frozen=True)
class SamplerSpec(Spec):
    """A coded sampler; ``factory`` names a subclass of ``toolkit.sampling.contract.Sampler``."""

    tag: str = ""
    """Short name in files, up to 4 characters; the name where it is empty."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tag:
            object.__setattr__(self, "tag", self.name)


@dataclass(frozen=True)
class MetricSpec(Spec):
    """A metric of two images; ``factory`` names a function (original, decoded) -> float, both
    uint8 (H, W, C). What it needs beyond programs and packages, such as weights, it can ask for
    in an attribute ``prepare`` of its own, called before a run: () -> None."""

    higher_is_better: bool = True
    unit: str = ""

    def prepare(self) -> None:
        """Raises MissingError where anything that the metric needs isn't there."""
        getattr(self.loaded, "prepare", lambda: None)()


@dataclass(frozen=True)
class PresetFile:
    """A YAML file of presets that a plugin brings; the same grammar as ``registry.yaml``."""

    path: str
