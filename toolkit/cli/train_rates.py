"""``toolkit train-rates``: weights that guess how many bits each latent element takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli import say, session
from toolkit.cli.options import Force


def train_rates(
    weights: Annotated[Path, typer.Argument(help="A ladder's weights file.")],
    data: Annotated[Path, typer.Option(help="Folder of photographs.")],
    out: Annotated[Path, typer.Option(help="The weights file to write: the same and more.")],
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 3000,
    pool: Annotated[int, typer.Option(min=1, help="Batches that are sampled.")] = 256,
    crop: Annotated[int, typer.Option(min=64, help="Side of the crops, in pixels.")] = 192,
    batch: Annotated[int, typer.Option(min=1, help="Crops in a batch.")] = 4,
    width: Annotated[int, typer.Option(min=1, max=256, help="Channels of its maps.")] = 48,
    hold_out: Annotated[int, typer.Option(min=0, help="Images that it never sees.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Of crops, rates and first weights.")] = 0,
    force: Force = False,
) -> None:
    """Train the small integer network by which both sides guess the rates of a ladder's elements.

    With it the trellis's layout 3 takes fewer bits at equal quality. It goes into a copy of the
    weights, which is another file to decoders: code pictures with that one from then on.
    """
    from toolkit.cli.progress import progress
    from toolkit.cli.streams import check_output_file
    from toolkit.format.weights import load_weights
    from toolkit.training.rates import RatesPlan, train_rates_of

    check_output_file(out, force, weights)
    spec = session().plugins.entropy_model(load_weights(weights).model)
    plan = RatesPlan(steps, pool, crop, batch, width, hold_out, seed)
    with progress(pool + steps, "batches sampled, steps") as step:
        error = train_rates_of(spec, weights, data, out, plan, step)
    say(f"{out}: held-out images are guessed to {error:.2f} octaves")


def register(app: typer.Typer) -> None:
    app.command("train-rates")(train_rates)
