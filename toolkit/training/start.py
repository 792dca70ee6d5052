"""Begin a run with the weights of an earlier one, of a model with as many channels or fewer."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from toolkit.errors import InputError
from toolkit.training.recipe import Start
from toolkit.weights import load_weights


def begin_with(model: nn.Module, kind: str, start: Start) -> int | None:
    """Copy weights from ``start.weights`` into ``model``, of the entropy model named ``kind``, in
    place.

    An axis that is longer in the model takes the file's values first (``start.channels`` of
    them, if given) and keeps its own initial values behind. Kernels ignore the inputs that are
    new to them, and kernels that the file doesn't have are 0, so that the model computes what the
    file's does. Returns how many channels were taken over, None where the model has no more.

    Raises MissingError where there is no such file, InputError where it is no weights file or
    one of another kind of model.
    """
    path = Path(start.weights)
    weights = load_weights(path)
    state, target = weights.tensors, model.state_dict()
    if weights.model != kind:
        raise InputError(f"{path}: weights of another kind of model ({weights.model})")
    if odd := sorted(state.keys() - target.keys()):
        raise InputError(f"{path}: weights of another kind of model (it has {odd[0]})")
    known = None
    for key, new in target.items():
        if key not in state:
            if new.ndim == 4:
                new.zero_()
            continue
        old = state[key].to(new.dtype)
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
