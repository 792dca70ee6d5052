"""The training recipe: one YAML file that says all there is to say about a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from msgspec import Meta, field
from msgspec.structs import force_setattr, replace

from toolkit.errors import InputError, UsageError
from toolkit.options import Options, parse_options

Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Decay = Annotated[float, Meta(ge=0, lt=1)]

LAMBDA_MIN, LAMBDA_MAX = 0.0018, 0.0483
KL_WARMUP = 1000


class Data(Options, frozen=True):
    """Where pictures come from."""

    folder: str
    """Folder of images, searched recursively."""
    hold_out: Annotated[int, Meta(ge=0)] = 24
    """How many images, spread evenly over the sorted list, are kept aside for validation."""
    memory_mb: Count = 2048
    """Decoded images kept in memory; a larger folder passes through piece by piece."""
    patches: Count | None = None
    """null: every step crops and flips at random. C: the thesis's rule (section 3.1), patches
    fixed for the whole run, ``C floor(W / crop) floor(H / crop)`` of an image, each seen once an
    epoch, none flipped."""


class Objective(Options, frozen=True):
    """Loss: ``(lambda D + bits per pixel) / lambda^balance``, lambda drawn uniformly in log.

    D is ``255^2 MSE`` (CompressAI's convention), ``3 MAE`` (the Laplace log-likelihood a
    pixel), or ``1 - MS-SSIM``.
    """

    distortion: Literal["mse", "mae", "ms-ssim"] = "mse"
    lambda_min: Positive = LAMBDA_MIN
    lambda_max: Positive = LAMBDA_MAX
    beta: Positive | None = None
    """With mae: the thesis's weight of the KL divergence against the Laplace log-likelihood, both
    in nats, in place of a range of lambdas: both are 1 / (beta ln 2), or 1 / beta where there is a
    ``laplace_scale``. With ``balance: 1`` the loss is the thesis's, a pixel."""
    laplace_scale: Positive | None = None
    """With mae: the Laplace scale gamma. D is then the negative Laplace log-likelihood in bits a
    pixel, ``3 MAE / (gamma ln 2) + 3 log2(2 gamma)``: thesis section 3.3.1 with the normaliser
    that it leaves out. lambda is 1 / beta."""
    learned_scale: bool = False
    """Learn gamma (gamma-PLN), beginning with ``laplace_scale``; a weights file says there what
    was learned."""
    least_scale: Positive | None = None
    """With a learned scale: gamma_inf. The scale in use is ``max(gamma, gamma_inf)``."""
    normaliser: bool = True
    """With ``laplace_scale``: whether D has the term ``3 log2(2 gamma)``. Without, the loss is the
    one that the thesis prints, ``D + gamma R`` (times lambda^(1 - balance)), whose gamma always
    falls, to ``least_scale``."""
    balance: Share = 0.5
    kl_warmup: Annotated[int, Meta(ge=0)] | None = None
    """Steps over which the weight of the rate grows linearly from 0 to 1; None: 1,000 from random
    weights, 0 where a run begins with weights, which the growth would spoil."""

    def __post_init__(self) -> None:
        if (self.laplace_scale or self.beta) and self.distortion != "mae":
            name = "laplace_scale" if self.laplace_scale else "beta"
            raise ValueError(f"{name} goes with distortion mae")
        if self.learned_scale and self.laplace_scale is None:
            raise ValueError("learned_scale needs a laplace_scale to begin with")
        if self.least_scale and not self.learned_scale:
            raise ValueError("least_scale goes with learned_scale")
        if self.learned_scale and not (self.normaliser or self.least_scale):
            raise ValueError("without the normaliser, a learned scale needs a least_scale")
        if self.beta is not None:
            self._fix_lambda(1 / (self.beta * (1 if self.laplace_scale else math.log(2))))
        if self.lambda_min > self.lambda_max:
            raise ValueError("lambda_min is above lambda_max")

    def _fix_lambda(self, value: float) -> None:
        given = (self.lambda_min, self.lambda_max)
        if given not in ((LAMBDA_MIN, LAMBDA_MAX), (value, value)):
            raise ValueError("beta and lambda_min, lambda_max say the same thing: give one")
        force_setattr(self, "lambda_min", value)
        force_setattr(self, "lambda_max", value)


class Phase(Options, frozen=True):
    """Crop size and batch size until a share of the run, or a number of steps, is done."""

    until: Share = 1.0
    until_step: Count | None = None
    """For runs whose length isn't known."""
    crop: Annotated[int, Meta(ge=64, multiple_of=32)] = 128
    batch: Count = 8


class Schedule(Options, frozen=True):
    """Length of the run, and the learning rate over it."""

    steps: Count | None = None
    minutes: Positive | None = None
    """Bound by steps, by minutes of training, or by whichever comes first. Neither: the run goes
    on until it is stopped (not with ``cosine``)."""
    warmup: Annotated[int, Meta(ge=0)] = 100
    """Steps over which the learning rate grows linearly to its full height."""
    shape: Literal["cosine", "constant", "exponential", "staircase"] = "cosine"
    """cosine: constant, then a cosine from ``flat`` to the end of the run. constant: for long runs,
    whose decay is a branch (``toolkit train --branch``). exponential: ``decay^(t / every)`` at step
    t; staircase: the same, in steps of ``every``."""
    flat: Share = 0.3
    """cosine: share of the run before the learning rate falls."""
    floor: Share = 0.03
    """Share of the full learning rate where a cosine ends, that of a branch too."""
    decay: Annotated[float, Meta(gt=0, lt=1)] = 0.96
    every: Count = 1500
    phases: tuple[Phase, ...] = (Phase(),)

    def __post_init__(self) -> None:
        if self.shape == "cosine" and self.steps is None and self.minutes is None:
            raise ValueError("a cosine needs steps, minutes or both")
        if not self.phases:
            raise ValueError("phases must hold at least one phase")


class Optimizer(Options, frozen=True):
    """Muon for convolution kernels, Adam for everything else."""

    kernel_lr: Positive = 0.006
    other_lr: Positive = 0.001
    kernels: Literal["muon", "adam"] = "muon"
    """adam: kernels, too, are left to Adam and its ``other_lr``."""
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    """Adam's."""
    clip: Positive | None = 20.0
    """Largest gradient norm; longer gradients are shortened. null: none are."""


class Guard(Options, frozen=True):
    """Which steps are skipped: those whose loss or gradient isn't finite, and those with a gradient
    far longer than usual, from which a network takes thousands of steps to recover."""

    factor: Annotated[float, Meta(gt=1)] | None = 10.0
    """A step is skipped if its gradient's norm is more than this many times the median of those of
    the last ``history`` steps that weren't. null: only what isn't finite is skipped."""
    history: Count = 200
    least: Count = 50
    """Steps without that rule at first, until there are as many norms."""
    in_a_row: Count = 20
    """So many skipped steps in a row end the run with an error."""


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
    """Safetensors of the same kind of model, with as many channels or fewer: a file, or the URL of
    one (https://, hf://) with its hash."""
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
    guard: Guard = Guard()
    ema: Ema = Ema()
    seed: Annotated[int, Meta(ge=0)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 on CUDA and on processors with instructions for it."""
    compile: bool = False
    """Compile the training pass (``torch.compile``), for GPUs. It draws other random numbers than
    without: for all of a run or none of it."""
    threads: int | Literal["auto"] = "auto"
    """Torch threads; auto: as many as make steps fastest, measured again all along."""
    checkpoint_minutes: Positive = 3.0
    validate_minutes: Positive = 6.0

    def __post_init__(self) -> None:
        if self.data.patches is not None and len(self.schedule.phases) > 1:
            raise ValueError("data.patches goes with a single phase of the schedule")
        if self.objective.kl_warmup is None:
            decided = replace(self.objective, kl_warmup=0 if self.start else KL_WARMUP)
            force_setattr(self, "objective", decided)


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
    return parse_options(Recipe, values, str(path))
