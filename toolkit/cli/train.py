"""``toolkit train``: a recipe to weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli import say, session


def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; goes on if it holds one.")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Override the recipe; repeatable."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after this long, to be resumed later.")
    ] = None,
    export_only: Annotated[
        bool, typer.Option("--export-only", help="Export the checkpoint as it is; no training.")
    ] = False,
) -> None:
    """Train an entropy model; ends with weights, a model card and the curves in OUT.

    Checkpoints are written every few minutes and where Ctrl-C or SIGTERM ends the run; the same
    command goes on where it stopped.
    Several GPUs: torchrun --nproc-per-node N -m toolkit train RECIPE --out DIR
    """
    from toolkit.errors import InputError
    from toolkit.options import parse_options
    from toolkit.plugin.presets import parse_override
    from toolkit.training.export import export
    from toolkit.training.recipe import load_recipe

    plan = load_recipe(recipe, dict(parse_override(text) for text in set_ or ()))
    spec = session().plugins.entropy_model(plan.model)

    import torch

    from toolkit.training.loop import Trainer

    torch.manual_seed(plan.seed)
    cls = spec.loaded
    model = cls(parse_options(cls.options_class, plan.options, f"{recipe}: options"))
    trainer = Trainer(model, plan, out)
    if export_only and not trainer.checkpoint.exists():
        raise InputError(f"{out}: no checkpoint to export")
    if not export_only:
        try:
            trainer.run(60 * minutes if minutes else None)
        except KeyboardInterrupt:
            say(f"interrupted at step {trainer.step}; the same command goes on from the checkpoint")
            raise SystemExit(130) from None
    if trainer.rank == 0:
        print(f"weights: {export(trainer)}")


def register(app: typer.Typer) -> None:
    app.command()(train)
