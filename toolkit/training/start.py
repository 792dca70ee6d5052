"""Begin a run with the weights of an earlier one, of a model with as many channels or fewer."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from toolkit.errors import InputError
from toolkit.training.recipe import Start


def begin_with(model: nn.Module, start: Start) -> int | None:
    """Copy weights from ``start.weights`` into ``model``, in place.

    An axis that is longer in the model takes the file's values first (``start.channels`` of
    them, if given) and keeps its own initial values behind. Kernels ignore the inputs that are
    new to them, and kernels that the file doesn't have are 0, so that the model computes what the
    file's does. Returns how many channels were taken over, None where the model has no more.

    Raises InputError where the file can't be read or is of another kind of model.
    """
    path = Path(start.weights)
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from None
    target = model.state_dict()
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
