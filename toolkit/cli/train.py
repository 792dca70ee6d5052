"""``toolkit train``: a recipe to weights."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli import say, session

if TYPE_CHECKING:
    from toolkit.training.log import Logger
    from toolkit.training.loop import Trainer
    from toolkit.training.recipe import Recipe


def train(
    recipe: Annotated[
        str | None, typer.Argument(help="The recipe: a YAML file, or the name of one that ships.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; goes on if it holds one.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Override the recipe; repeatable."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after this long, to be resumed later.")
    ] = None,
    branch: Annotated[
        Path | None,
        typer.Option(
            help="Leave the run in OUT as it is, and take --decay-steps from its checkpoint into "
            "this folder, the learning rate falling; the run may go on meanwhile."
        ),
    ] = None,
    decay_steps: Annotated[
        int | None, typer.Option("--decay-steps", min=1, help="Length of a --branch.")
    ] = None,
    export_only: Annotated[
        bool, typer.Option("--export-only", help="Export the checkpoint as it is; no training.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard's events into OUT, too.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the recipes that ship.")] = False,
) -> None:
    """Train an entropy model; ends with weights, a model card and the curves in OUT.

    Checkpoints are written every few minutes and where Ctrl-C or SIGTERM ends the run; the same
    command goes on where it stopped.
    Several GPUs: torchrun --nproc-per-node N -m toolkit train RECIPE --out DIR
    """
    from toolkit.errors import InputError, UsageError
    from toolkit.plugin.presets import parse_override
    from toolkit.training.folder import CHECKPOINT, locked
    from toolkit.training.recipe import load_recipe
    from toolkit.training.shipped import find_recipe

    if list_:
        _list_recipes()
        return
    if recipe is None or out is None:
        raise UsageError("give a recipe and --out FOLDER (toolkit train --list shows recipes)")
    if (branch is None) != (decay_steps is None):
        raise UsageError("--branch and --decay-steps go together")
    if branch is not None and branch.resolve() == out.resolve():
        raise UsageError(f"{branch}: --branch must be another folder than --out")
    path = find_recipe(recipe, session().plugins)
    plan = load_recipe(path, dict(parse_override(text) for text in set_ or ()))
    folder = branch or out
    if export_only and not (folder / CHECKPOINT).exists():
        raise InputError(f"{folder}: no checkpoint to export")
    with ExitStack() as stack:
        if _is_first():
            stack.enter_context(locked(folder))
        branched = (out, decay_steps) if decay_steps else None
        trainer = _trainer(plan, str(path), folder, branched, _loggers(folder, tensorboard))
        _work(trainer, minutes, export_only)


def _is_first() -> bool:
    from toolkit.training.processes import Processes

    return Processes.from_environment().first


def _list_recipes() -> None:
    from toolkit.cli.columns import print_columns
    from toolkit.training.shipped import describe, shipped_recipes

    recipes = shipped_recipes(session().plugins)
    print_columns([(name, describe(path)) for name, paths in recipes.items() for path in paths])


def _loggers(folder: Path, tensorboard: bool) -> list[Logger]:
    """Who is told of the log's records: plugins, and TensorBoard if wanted."""
    from toolkit.plugin.observers import HookObservers

    observers = HookObservers(session().plugins, "toolkit_training_record", say)
    loggers: list[Logger] = [lambda record: observers(folder=folder, record=dict(record))]
    if tensorboard:
        from toolkit.training.tensorboard import TensorBoard

        loggers.append(TensorBoard(folder))
    return loggers


def _trainer(
    plan: Recipe,
    origin: str,
    folder: Path,
    branch: tuple[Path, int] | None,
    loggers: list[Logger],
) -> Trainer:
    from toolkit.options import parse_options

    cls = session().plugins.entropy_model(plan.model).loaded

    import torch

    from toolkit.training.loop import Trainer

    options = parse_options(cls.options_class, plan.options, f"{origin}: options")
    torch.manual_seed(plan.seed)
    return Trainer(cls(options), plan, folder, branch, loggers)


def _work(trainer: Trainer, minutes: float | None, export_only: bool) -> None:
    from toolkit.training.export import export

    if not export_only:
        try:
            trainer.run(60 * minutes if minutes else None)
        except KeyboardInterrupt:
            say(f"interrupted at step {trainer.step}; the same command goes on from the checkpoint")
            raise SystemExit(130) from None
    if trainer.processes.first:
        print(f"weights: {export(trainer)}")


def register(app: typer.Typer) -> None:
    app.command()(train)
