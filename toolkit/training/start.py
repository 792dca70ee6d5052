"""Begin a run with the weights of an earlier one, of a model with as many channels or fewer."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from toolkit.errors import InputError
from toolkit.format.weights import load_weights
from toolkit.format.weights_url import locate_weights
from toolkit.options import parse_options
from toolkit.training.data import CropSource
from toolkit.training.objective import AddsChannels
from toolkit.training.recipe import Objective, Recipe, Start

AT_RATES = "log_gain"
"""Last part of the names of tensors (rates, channels): log-gains at equally spaced rates."""
FITTING_BATCHES = 64
"""Batches of four crops that new channels are fitted to, those of steps that never come."""
FIRST_FITTING_STEP = 1 << 40


def begin(model: nn.Module, recipe: Recipe, start: Start, crops: CropSource) -> None:
    """Begin a run with the weights that its recipe names; channels that are new to them are fitted
    to crops, if the model can do that."""
    objective = recipe.objective
    known = begin_with(model, recipe.model, start, objective)
    if isinstance(model, AddsChannels) and known is not None:
        size = max(phase.crop for phase in recipe.schedule.phases)
        steps = range(FIRST_FITTING_STEP, FIRST_FITTING_STEP + FITTING_BATCHES)
        batches = (crops.batch(step, size, 4) for step in steps)
        images = [torch.from_numpy(batch).float() / 255 for batch in batches]
        model.add_channels(images, known, start.opens, objective)


def at_rates(log_gains: Tensor, knots: int, old: Objective, new: Objective) -> Tensor:
    """Log-gains (rates, C) learned over the lambdas of ``old``, at ``knots`` rates (knots, C)
    equally spaced over those of ``new``: the same gain for the same lambda, linear in its
    logarithm between what is known and beyond. Another kind of distortion has lambdas of its own,
    whose lowest and highest are taken for each other."""
    if old.distortion == new.distortion:
        low, high = math.log(old.lambda_min), math.log(old.lambda_max)
        ends = [math.log(value) for value in (new.lambda_min, new.lambda_max)]
        first, last = ((end - low) / (high - low) for end in ends) if high > low else (0.0, 1.0)
    else:
        first, last = 0.0, 1.0
    count = len(log_gains)
    if count == 1:  # learned at one rate only
        return log_gains.expand(knots, -1)
    position = torch.linspace(first, last, knots, dtype=torch.float64) * (count - 1)
    below = position.floor().clamp(0, count - 2).long()
    share = (position - below)[:, None]
    wide = log_gains.double()
    return (wide[below] * (1 - share) + wide[below + 1] * share).to(log_gains.dtype)


def begin_with(model: nn.Module, kind: str, start: Start, objective: Objective) -> int | None:
    """Copy weights from ``start.weights`` into ``model``, of the entropy model named ``kind``, in
    place.

    An axis that is longer in the model takes the file's values first (``start.channels`` of
    them, if given) and keeps its own initial values behind. Kernels ignore the inputs that are
    new to them, and kernels that the file doesn't have are 0, so that the model computes what the
    file's does; gains move to the lambdas of ``objective`` (``at_rates``). Returns how many
    channels were taken over, None where the model has no more.

    Raises MissingError where there is no such file, InputError where it is no weights file or
    one of another kind of model.
    """
    path = locate_weights(start.weights)
    weights = load_weights(path)
    state, target = weights.tensors, model.state_dict()
    if weights.model not in (kind, *getattr(model, "begins_with", ())):
        raise InputError(f"{path}: weights of another kind of model ({weights.model})")
    if odd := sorted(state.keys() - target.keys()):
        raise InputError(f"{path}: weights of another kind of model (it has {odd[0]})")
    before = parse_options(Objective, weights.objective, str(path))
    known = None
    for key, new in target.items():
        if key not in state:
            if new.ndim == 4:
                new.zero_()
            continue
        old = state[key].to(new.dtype)
        if key.endswith(AT_RATES):
            old = at_rates(old, len(new), before, objective)
        if old.ndim != new.ndim or any(a > b for a, b in zip(old.shape, new.shape, strict=True)):
            raise InputError(f"{path}: {key} is {tuple(old.shape)}, too large for this model")
        kept = list(old.shape)
        for axis, (a, b) in enumerate(zip(old.shape, new.shape, strict=True)):
            if a < b:
                kept[axis] = known = min(a, start.channels or a)
        if new.ndim == 4:
            new[: kept[0], kept[1] :] = 0
        block = tuple(slice(n) for n in kept)
        new[block] = old[block]
    return known
