"""Conformance kit of entropy models, with random weights made on the spot."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import ToolkitError
from toolkit.options import Options, parse_options
from toolkit.plugin.contracts import model_problem
from toolkit.plugin.specs import EntropyModelSpec
from toolkit.testing.codecs import CodecReport, check_codec
from toolkit.testing.subject import ConformanceError, described

if TYPE_CHECKING:
    from torch import nn

    from toolkit.plugin.loader import Plugins


@dataclass
class ModelReport:
    """What was found about an entropy model that passed."""

    model: str
    parameters: int = 0
    """How many numbers its weights are, with the options that were tested."""
    levels: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Shape (C, h, w) of each level of the picture that was tested; empty for models that send no
    samples."""
    picture: tuple[int, int] = (0, 0)
    """Height and width of that picture."""
    codec: CodecReport | None = None
    """Of the codec that comes with a model that sends samples."""
    checks: list[str] = field(default_factory=list)
    """Checks passed, in order."""

    def __str__(self) -> str:
        levels = ", ".join(f"{name} {shape}" for name, shape in self.levels.items())
        of = f" at {self.picture[1]}x{self.picture[0]} pixels: {levels}" if levels else ""
        coded = f"\n{self.codec}" if self.codec else ""
        return f"{self.model}: {self.parameters:,} weights{of}; {', '.join(self.checks)}{coded}"


def check_entropy_model(
    model: str | EntropyModelSpec | type[nn.Module],
    options: Mapping[str, Any] | None = None,
    *,
    idle: Sequence[str] = (),
    plugins: Plugins | None = None,
    damaged: int = 40,
    seed: int = 0,
) -> ModelReport:
    """Put an entropy model through all checks: as a network, and as a codec.

    Models that send samples (subclasses of ``LadderModel``) are coded with, too; of others only
    training and export are checked, since their codecs are their own: ``check_codec``.

    Arguments:
        model: Its name, its descriptor or its class.
        options: Of the model; small ones make it quick.
        idle: Beginnings of names of parameters that needn't get gradients.
        plugins: Where a name is looked up; all that are installed by default.
        damaged: How many damaged files are tried.
        seed: Of weights, pictures and damage.

    Raises ConformanceError that says which check failed and what was seen.
    """
    from toolkit.entropy_model.base import LadderModel
    from toolkit.testing import ladders, training

    spec = _spec(model, plugins)
    cls = spec.loaded
    if problem := model_problem(cls):
        raise ConformanceError("interface", f"{spec.name} {problem}")
    network = _made(cls, _parsed(spec, options or {}), seed)
    report = ModelReport(spec.name, sum(p.numel() for p in network.parameters()))
    with tempfile.TemporaryDirectory() as folder:
        path = training.export(network, spec, Path(folder))
        training.check_export(spec, path)
        report.checks.append("export")
        if isinstance(network, LadderModel):
            ladders.check_ladder(network, report, seed)
        training.check_training_pass(network, report, seed)
        training.check_gradients(network, report, tuple(idle), seed)
        if isinstance(network, LadderModel):
            report.codec = check_codec(
                spec.codec_spec,
                {"weights": str(path)},
                plugins=plugins,
                trained=False,
                damaged=damaged,
                seed=seed,
            )
    return report


def _spec(
    model: str | EntropyModelSpec | type[nn.Module], plugins: Plugins | None
) -> EntropyModelSpec:
    if isinstance(model, EntropyModelSpec):
        return model
    if isinstance(model, str):
        from toolkit.plugin.loader import load_plugins

        return (plugins or load_plugins()).entropy_model(model)
    if problem := model_problem(model):
        raise ConformanceError("interface", f"{getattr(model, '__name__', model)!s} {problem}")
    # a descriptor whose factory has been loaded already
    spec = EntropyModelSpec("under-test", model.__name__, f"{__name__}:{model.__name__}")
    spec.__dict__["loaded"] = model
    return spec


def _parsed(spec: EntropyModelSpec, options: Mapping[str, Any]) -> Options:
    cls = spec.loaded.options_class
    if not (isinstance(cls, type) and issubclass(cls, Options)):
        raise ConformanceError("interface", f"options_class must be a subclass of Options: {cls!r}")
    return parse_options(cls, options, spec.name)


def _made(cls: type[Any], options: Options, seed: int) -> nn.Module:
    """The model with weights that are random everywhere: fresh ones may be zeros in places."""
    import torch

    torch.manual_seed(seed)
    try:
        network: nn.Module = cls(options).eval()
    except ToolkitError:
        raise
    except Exception as error:
        raise ConformanceError(
            "interface", f"{cls.__name__}(options) raised {described(error)}"
        ) from (error)
    if getattr(network, "options", None) != options:
        raise ConformanceError(
            "interface", "the model must keep its options in the attribute 'options'"
        )
    with torch.no_grad():
        for parameter in network.parameters():
            spread = 0.05 * float(parameter.square().mean().sqrt()) + 1e-3
            parameter.add_(spread * torch.randn_like(parameter))
    return network
