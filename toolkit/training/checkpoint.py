"""Checkpoints: all of a run's state in one file, complete or absent; branches begin with one."""

from __future__ import annotations

import json
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import msgspec
import torch

from toolkit.errors import InputError, UsageError
from toolkit.format.files import write_atomically
from toolkit.options import to_mapping
from toolkit.training.folder import CHECKPOINT
from toolkit.training.recipe import Recipe
from toolkit.training.schedule import Branch, RunSchedule

State = dict[str, Any]
"""``recipe`` (JSON), ``branch`` (JSON or null), ``step``, ``seconds``, and the state of each part
of the run by its name."""


_NO_CHECKPOINT = (
    OSError, EOFError, UnpicklingError, RuntimeError, ValueError, LookupError, TypeError,
    msgspec.MsgspecError,
)  # fmt: skip


def write_checkpoint(path: Path, recipe: Recipe, branch: Branch | None, state: State) -> None:
    """Write a checkpoint; the old one stands until the new one is complete."""
    state = {
        "recipe": json.dumps(to_mapping(recipe)),
        "branch": json.dumps(to_mapping(branch)) if branch else None,
        **state,
    }
    write_atomically(path, lambda file: torch.save(state, file))


def read_checkpoint(path: Path) -> State:
    """Read a checkpoint, ``recipe`` and ``branch`` as options. A run may be writing it: what is
    there is complete. Raises InputError where it is no checkpoint."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state["recipe"] = msgspec.convert(json.loads(state["recipe"]), Recipe)
        branch = state.get("branch")
        state["branch"] = msgspec.convert(json.loads(branch), Branch) if branch else None
        return state
    except _NO_CHECKPOINT as error:
        raise InputError(f"{path}: not a checkpoint ({type(error).__name__})") from None


def check_same_run(path: Path, before: Recipe, now: Recipe) -> None:
    """Raise UsageError unless a checkpoint of recipe ``before`` fits the recipe ``now``."""
    same = ("model", "options", "objective")
    if any(getattr(before, key) != getattr(now, key) for key in same):
        raise UsageError(f"{path} is of another model or objective; choose another --out")


def begin_branch(run: Path, out: Path, steps: int, recipe: Recipe) -> None:
    """Make ``out`` a branch of the run in the folder ``run``, which is only read: from its
    checkpoint, ``steps`` steps with the learning rate falling to the recipe's floor.

    Where ``out`` is a branch as long already, it is left as it is, to be gone on with; the run may
    be further by now. Raises InputError where there is no checkpoint to branch from, UsageError
    where ``out`` holds anything else.
    """
    target, source = out / CHECKPOINT, run / CHECKPOINT
    if target.exists():
        begun = read_checkpoint(target)["branch"]
        if begun is None or begun.steps != steps:
            what = "isn't a branch" if begun is None else f"is a branch of {begun.steps} steps"
            raise UsageError(f"{out}: the run there {what}; choose another --branch")
        return
    if not source.exists():
        raise InputError(f"{run}: no checkpoint to branch from")
    state = read_checkpoint(source)
    before, step, seconds = state.pop("recipe"), state["step"], state["seconds"]
    check_same_run(source, before, recipe)
    if state.pop("branch"):
        raise UsageError(f"{run} is a branch itself; branch off the run that it left")
    schedule = RunSchedule(before.schedule)
    branch = Branch(
        start=step,
        steps=steps,
        progress=schedule.progress(step, seconds),
        scale=schedule.learning_rate_scale(step, seconds),
        floor=recipe.schedule.floor,
    )
    write_checkpoint(target, before, branch, state)
