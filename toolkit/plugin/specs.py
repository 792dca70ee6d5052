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
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from toolkit.errors import MissingError, PluginError, ToolkitError
from toolkit.packages import extras_of, install_command, present
from toolkit.plugin.contracts import metric_problem, model_problem, subclass_problem

_NAME = re.compile(r"[a-z0-9][a-z0-9+._-]{0,39}")
FILE_MODULE = "toolkit_file_"
"""What the names of modules begin with that are plugins' single files."""
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
    provider: str = field(default="", kw_only=True)
    """The plugin it came from, and where that is from; filled in on loading."""

    kind: ClassVar[str] = "thing"

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

    def missing_extras(self) -> list[str]:
        """The extras of our distribution that install what is missing."""
        return extras_of(need.removeprefix("python:") for need in self.missing())

    def install_hint(self) -> str:
        """The command that installs what is missing, as far as packages can; else empty."""
        return install_command(self.missing_extras())

    @cached_property
    def loaded(self) -> Any:
        """What ``factory`` names. Raises MissingError where it can't be had."""
        absent = self.missing()
        if absent:
            hint = f"; {text}" if (text := self.install_hint()) else ""
            raise MissingError(f"'{self.name}' needs {', '.join(absent)}: not installed{hint}")
        module, _, attribute = self.factory.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (KeyboardInterrupt, MemoryError, ToolkitError):
            raise
        except (ImportError, AttributeError, OSError) as error:
            raise MissingError(f"'{self.name}' can't be loaded: {error}") from error
        except BaseException as error:  # a plugin's module may raise anything, SystemExit too
            text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise PluginError(f"'{self.name}' can't be loaded: {text}") from error
        if problem := self.problem(found):
            plugin = f"plugin {self.provider}: " if self.provider else ""
            raise PluginError(plugin + self.complaint(problem))
        return found

    def problem(self, found: Any) -> str:
        """Why ``found``, which ``factory`` names, can't be what it should; empty if it can."""
        return ""

    def complaint(self, problem: str) -> str:
        """``problem`` with kind and name; whoever tells of it names the plugin."""
        own = self.factory.startswith(FILE_MODULE)
        place = self.factory.partition(":")[2] if own else self.factory
        return f"{self.kind} '{self.name}': {place} {problem}"

    def problem_if_imported(self) -> str:
        """``problem`` of what ``factory`` names, as a complaint, where its module has been imported
        already; imports nothing."""
        module, _, attribute = self.factory.partition(":")
        if module not in sys.modules:
            return ""
        if not hasattr(sys.modules[module], attribute):
            return self.complaint("isn't there")
        problem = self.problem(getattr(sys.modules[module], attribute))
        return self.complaint(problem) if problem else ""


def _present(need: str) -> bool:
    if need.startswith("python:"):
        return present(need.removeprefix("python:"))
    return shutil.which(need) is not None


@dataclass(frozen=True)
class RateParameter:
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

    rate_parameter: RateParameter = field(default=RateParameter("quality", 0, 100))
    suffix: str = ".qf"
    """Of its files; ``.qf`` for the toolkit's container, else the format's own."""
    magic: tuple[tuple[int, bytes], ...] = ()
    """What files of a format of its own begin with: (offset, bytes), any of them."""
    availability: str = ""
    """``package.module:function`` that takes the name and returns why the codec can't be used yet
    (its weights aren't here), or an empty string. It must be quick. Empty: nothing but ``needs``
    and shipped weights of the model's name can be missing."""
    model: EntropyModelSpec | None = None
    """The entropy model that it codes with, for codecs that come with a model."""

    kind: ClassVar[str] = "codec"

    def problem(self, found: Any) -> str:
        return subclass_problem(found, "toolkit.codec.base:Codec")

    def unavailable_reason(self) -> str:
        """Why it can't be used as things are, in one line: what ``needs`` misses, else what
        ``availability`` tells, else that the model has no weights; empty if all is there."""
        if absent := self.missing():
            return f"missing: {', '.join(absent)}"
        module, _, attribute = self.availability.partition(":")
        if module:
            return str(getattr(importlib.import_module(module), attribute)(self.name))
        if self.model is None or self.model.has_weights:
            return ""
        return "no weights: train them, or -o weights=FILE"


@dataclass(frozen=True)
class EntropyModelSpec(Spec):
    """An entropy model, and with it a codec of the same name.

    ``factory`` names an ``nn.Module`` class that is made of its options alone and keeps them in
    ``options``, with their class in ``options_class``, and a ``training_pass``. One that sends
    samples is a subclass of ``toolkit.entropy_model.base.LadderModel``, which brings the pass.
    """

    codec: str = "toolkit.codec.ladder_codec:LadderCodec"
    """``package.module:Name`` of the codec class that codes with it, a ``ContainerCodec``, which
    finds this descriptor in its ``spec.model``. Models that quantize bring their own."""
    codec_needs: tuple[str, ...] = ()
    """As ``needs``, for coding; ``needs`` is for training."""
    rate_parameter: RateParameter = field(default=RateParameter("rate", 0.0, 1.0))
    availability: str = ""
    """As of ``CodecSpec``."""

    kind: ClassVar[str] = "entropy model"

    def problem(self, found: Any) -> str:
        return model_problem(found)

    @property
    def weights_folder(self) -> Path:
        """Where shipped weights lie: ``weights`` beside the module that ``factory`` names."""
        found = importlib.util.find_spec(self.factory.partition(":")[0])
        if found is None or found.origin is None:
            raise MissingError(f"'{self.name}' can't be loaded: no module for {self.factory}")
        return Path(found.origin).parent / "weights"

    @property
    def has_weights(self) -> bool:
        """Whether ``weights_folder`` has a file of the model's name."""
        try:
            return (self.weights_folder / f"{self.name}.safetensors").is_file()
        except (MissingError, ImportError, ValueError):  # no such module: loading it says so
            return False

    @property
    def codec_spec(self) -> CodecSpec:
        """The codec that comes with the model."""
        return CodecSpec(
            self.name,
            self.summary,
            self.codec,
            needs=self.codec_needs,
            reference=self.reference,
            rate_parameter=self.rate_parameter,
            availability=self.availability,
            model=self,
            provider=self.provider,
        )


@dataclass(frozen=True)
class SamplerSpec(Spec):
    """A coded sampler; ``factory`` names a subclass of ``toolkit.sampling.contract.Sampler``."""

    tag: str = ""
    """Short name in files, up to 4 characters; the name where it is empty."""

    kind: ClassVar[str] = "sampler"

    def problem(self, found: Any) -> str:
        return subclass_problem(found, "toolkit.sampling.contract:Sampler")

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

    kind: ClassVar[str] = "metric"

    def problem(self, found: Any) -> str:
        return metric_problem(found)

    def prepare(self) -> None:
        """Raises MissingError where anything that the metric needs isn't there."""
        getattr(self.loaded, "prepare", lambda: None)()


@dataclass(frozen=True)
class PresetFile:
    """A YAML file of presets that a plugin brings; the same grammar as ``registry.yaml``."""

    path: str
