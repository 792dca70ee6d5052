"""Checks of what training asks of an entropy model: a pass, gradients, export."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from toolkit.entropy_model.base import LadderModel
from toolkit.entropy_model.network import load_model
from toolkit.errors import ToolkitError
from toolkit.format.tensors import pack
from toolkit.options import to_mapping
from toolkit.testing.pictures import picture
from toolkit.testing.subject import ConformanceError, described
from toolkit.training.objective import TrainingPass
from toolkit.training.recipe import Objective

if TYPE_CHECKING:
    from toolkit.plugin.specs import EntropyModelSpec
    from toolkit.testing.models import ModelReport

CROP = 128
"""Pixels a side of the pictures for training."""
RATES = (0.0, 0.5, 1.0)
DRAWS = 6
"""Passes that are averaged where samples differ."""
TOLERANCE = 0.1
"""Relative error of the bits of averaged passes."""


def images(count: int, height: int, width: int, seed: int) -> Tensor:
    """Pictures (count, 3, height, width), values in [0, 1]."""
    pictures = [picture(height, width, 3, seed + i).transpose(2, 0, 1) for i in range(count)]
    return torch.stack([torch.from_numpy(p.copy()).float() / 255 for p in pictures])


def export(network: nn.Module, spec: EntropyModelSpec, folder: Path) -> Path:
    """A weights file of the network, as training writes it."""
    from safetensors.torch import save_file

    path = folder / f"{spec.name}.safetensors"
    metadata = {
        "model": spec.name,
        "options": json.dumps(to_mapping(network.options)),  # type: ignore[arg-type]
        "objective": json.dumps(to_mapping(Objective())),
    }
    save_file(pack(network.state_dict()), path, metadata)
    return path


def check_export(spec: EntropyModelSpec, path: Path) -> None:
    """A weights file and the options in it make the model again."""
    try:
        load_model(spec, path)
    except ToolkitError as error:
        raise ConformanceError("export", f"exported weights can't be loaded: {error}") from error
    except Exception as error:
        raise ConformanceError(
            "export", f"exported weights can't be loaded: {described(error)}"
        ) from error


def check_training_pass(network: nn.Module, report: ModelReport, seed: int) -> None:
    """Shapes and finite bits; of ladders, the bits of the levels' own priors and posteriors."""
    x, rate = images(len(RATES), CROP, CROP, seed), torch.tensor(RATES)
    result = _pass(network, x, rate)
    if result.x_hat.shape != x.shape:
        raise ConformanceError(
            "training pass", f"x_hat has shape {tuple(result.x_hat.shape)}, not {tuple(x.shape)}"
        )
    _check_finite(result.x_hat, "training pass", "x_hat")
    for name, bits in result.bits.items():
        if bits.shape != rate.shape:
            raise ConformanceError(
                "training pass",
                f"bits of '{name}' have shape {tuple(bits.shape)}, not ({len(x)},): one sum for "
                "each picture",
            )
        _check_finite(bits, "training pass", f"bits of '{name}'")
        fewest = float(bits.detach().min())
        if fewest < -0.01:
            raise ConformanceError("training pass", f"'{name}' has {fewest:g} bits")
    if isinstance(network, LadderModel):
        _check_bits(network, x, rate)
    report.checks.append("training pass")


def _pass(network: Any, x: Tensor, rate: Tensor) -> TrainingPass:
    try:
        result = network.training_pass(x, rate)
    except Exception as error:
        raise ConformanceError("training pass", f"it raised {described(error)}") from error
    if not isinstance(result, TrainingPass) or not result.bits:
        raise ConformanceError("training pass", "it must return a TrainingPass with bits")
    return result


def _check_finite(tensor: Tensor, check: str, what: str) -> None:
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise ConformanceError(check, f"{what}: {bad} are NaN or infinite")


def _check_bits(network: LadderModel, x: Tensor, rate: Tensor) -> None:
    """What training minimises is what coding sends: the KL of the walk down the ladder."""
    names = [network.name(index) for index in range(network.depth)]
    with torch.no_grad():
        torch.manual_seed(0)
        passes = [_pass(network, x, rate).bits for _ in range(DRAWS)]
        torch.manual_seed(0)
        walks = [LadderModel.training_pass(network, x, rate).bits for _ in range(DRAWS)]
    if list(passes[0]) != names:
        raise ConformanceError("training pass", f"it has bits of {list(passes[0])}, not of {names}")
    for name in names:
        trained, coded = (
            torch.stack([bits[name] for bits in found]).mean(0) for found in (passes, walks)
        )
        if not torch.allclose(trained, coded, rtol=TOLERANCE, atol=1.0):
            raise ConformanceError(
                "training pass",
                f"'{name}' has {_figures(trained)} bits in it, but {_figures(coded)} on the way "
                "that is coded",
            )


def _figures(values: Tensor) -> str:
    return ", ".join(f"{float(value):.4g}" for value in values)


def check_gradients(
    network: nn.Module, report: ModelReport, idle: tuple[str, ...], seed: int
) -> None:
    """The loss reaches every parameter, at some rate."""
    network = copy.deepcopy(network).train()
    x, rate = images(len(RATES), CROP, CROP, seed), torch.tensor(RATES)
    torch.manual_seed(seed)
    result = _pass(network, x, rate)
    distortion = 255.0**2 * (x - result.x_hat).square().mean()
    loss = distortion + torch.stack(list(result.bits.values())).sum() / CROP**2
    try:
        loss.backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise ConformanceError("gradients", f"there are none: {described(error)}") from error
    without: list[str] = []
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad or name.startswith(idle or ("\0",)):
            continue
        if parameter.grad is None or not parameter.grad.any():
            without.append(name)
        else:
            _check_finite(parameter.grad, "gradients", name)
    if without:
        raise ConformanceError("gradients", f"none reach {', '.join(without)}")
    report.checks.append("gradients")
