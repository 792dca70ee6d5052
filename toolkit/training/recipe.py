"""The training recipe: one YAML file that says all there is to say about a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from msgspec import Meta, field

from toolkit.errors import InputError, UsageError
from toolkit.options import Options, parse_options

Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Data(Options, frozen=True):
    """Where pictures come from."""

    folder: str
    """Folder of images, searched recursively."""
    hold_out: Annotated[int, Meta(ge=0)] = 24
    """How many images, spread evenly over the sorted list, are kept aside for validation."""
    memory_mb: Count = 2048
    """Decoded images kept in memory; a larger folder passes through piece by piece."""


class Objective(Options, frozen=True):
    """Loss: ``(lambda D + bits per pixel) / lambda^balance``, lambda drawn uniformly in log.

    D is ``255^2 MSE`` (CompressAI's convention), ``3 MAE`` (the Laplace log-likelihood a
    pixel; lambda = 1 / (beta ln 2) for the thesis's beta), or ``1 - MS-SSIM``.
    """

    distortion: Literal["mse", "mae", "ms-ssim"] = "mse"
    lambda_min: Positive = 0.0018
    lambda_max: Positive = 0.0483
    laplace_scale: Positive | None = None
    """With mae: the Laplace scale gamma. D is then the negative Laplace log-likelihood in bits a
    pixel, ``3 MAE / (gamma ln 2) + 3 log2(2 gamma)``: thesis section 3.3.1 with the normaliser
    that it leaves out. lambda is 1 / beta."""
    learned_scale: bool = False
    """Learn gamma (gamma-PLN), beginning with ``laplace_scale``; a weights file says there what
    was learned."""
    balance: Share = 0.5
    kl_warmup: Annotated[int, Meta(ge=0)] = 1000
    """Steps over which the weight of the rate grows linearly from 0 to 1."""


class Phase(Options, frozen=True):
    """Crop size and batch size until a share of the run is done."""

    until: Share
    crop: Annotated[int, Meta(ge=64, multiple_of=32)] = 128
    batch: Count = 8


class Schedule(Options, frozen=True):
    """Length of the run, and the learning rate over it: warm-up, constant, cosine."""

    steps: Count | None = None
    minutes: Positive | None = None
    """Bound by steps, by minutes of training, or by whichever comes first."""
    warmup: Annotated[int, Meta(ge=0)] = 100
    flat: Share = 0.3
    floor: Share = 0.03
    phases: tuple[Phase, ...] = (Phase(until=1.0),)


class Optimizer(Options, frozen=True):
    """Muon for convolution kernels, Adam for everything else."""

    kernel_lr: Positive = 0.006
    other_lr: Positive = 0.001
    kernels: Literal["muon", "adam"] = "muon"
    clip: Positive = 20.0


class Ema(Options, frozen=True):
    """Exponential moving average of the weights; what is validated and exported.

    The memory, ``every / (1 - decay)`` steps, is short beside the last, slow part of the
    schedule: while the learning rate is high the weights travel far in a thousand steps, and
    their average is worse than any of them.
    """

    decay: Share = 0.98
    every: Count = 5


class Start(Options, frozen=True):
    """Weights to begin with."""

    weights: str
    """Safetensors of the same kind of model, with as many channels or fewer."""
    channels: Count | None = None
    """Where the model has more channels: how many of the file's to take over (null: all). The
    file's are sorted, the most informative first, and its last may be idle."""
    opens: Share = 0.0
    """Where the model has more channels: the rate at which the first new one comes into use. The
    last follows midway between there and 1; below, a channel carries nothing."""


class Recipe(Options, frozen=True):
    """A training run."""

    model: str
    """Name of a trainable entropy model (``toolkit plugins`` lists them)."""
    data: Data
    options: dict[str, Any] = field(default_factory=dict)
    """The model's own options."""
    start: Start | None = None
    """Weights to begin with; null: random ones."""
    objective: Objective = Objective()
    schedule: Schedule = Schedule(steps=100_000)
    optimizer: Optimizer = Optimizer()
    ema: Ema = Ema()
    seed: Annotated[int, Meta(ge=0)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int | Literal["auto"] = "auto"
    """Torch threads; auto: as many as make steps fastest, measured again all along."""
    checkpoint_minutes: Positive = 3.0
    validate_minutes: Positive = 6.0


def load_recipe(path: Path, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe. ``overrides`` maps dotted keys to values (``{"data.folder": "pics"}``).

    Raises InputError where the file can't be read, UsageError where it says the wrong thing.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path}: a recipe is a mapping of keys to values")
    for key, value in (overrides or {}).items():
        *parents, last = key.split(".")
        at = values
        for name in parents:
            at = at.setdefault(name, {})
            if not isinstance(at, dict):
                raise UsageError(f"{key}: '{name}' is not a mapping")
        at[last] = value
    recipe = parse_options(Recipe, values, str(path))
    if recipe.schedule.steps is None and recipe.schedule.minutes is None:
        raise UsageError(f"{path}: schedule needs steps, minutes or both")
    objective = recipe.objective
    if objective.learned_scale and objective.laplace_scale is None:
        raise UsageError(f"{path}: objective.learned_scale needs a laplace_scale to begin with")
    if objective.laplace_scale is not None and objective.distortion != "mae":
        raise UsageError(f"{path}: objective.laplace_scale goes with distortion mae")
    if objective.lambda_min > objective.lambda_max:
        raise UsageError(f"{path}: objective.lambda_min is above lambda_max")
    return recipe
