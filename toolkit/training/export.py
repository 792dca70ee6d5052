"""What a run leaves: weights in safetensors, a model card, the curves."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any, cast

import torch

from toolkit.environment import processor_name
from toolkit.format.files import write_atomically, write_bytes_atomically
from toolkit.format.weights import write_weights
from toolkit.options import parse_options, to_mapping
from toolkit.packages import present
from toolkit.training.folder import LOG
from toolkit.training.log import read_log
from toolkit.training.loop import Trainer
from toolkit.training.objective import RateDistortion, SortsChannels


def export(trainer: Trainer) -> Path:
    """Write ``MODEL.safetensors``, ``MODEL.md`` (the card) and, where matplotlib is installed,
    ``curves.png`` of the averaged weights into the run's folder; returns the weights' path."""
    recipe = trainer.recipe
    model = trainer.ema["model"]
    options = to_mapping(parse_options(cast(Any, model).options_class, recipe.options, "options"))
    objective = to_mapping(cast(RateDistortion, trainer.ema["objective"]).learned())
    if isinstance(model, SortsChannels) and trainer.validation.files:
        model = copy.deepcopy(model)  # a checkpoint made later still fits its optimiser
        model.sort_channels(trainer.validation.images())
    path = trainer.out / f"{recipe.model}.safetensors"
    write_weights(path, recipe.model, options, objective, model.state_dict())
    rows = trainer.validate()
    card = model_card(trainer, options, objective, rows)
    write_bytes_atomically(trainer.out / f"{recipe.model}.md", card.encode())
    if present("matplotlib"):
        plot_curves(trainer.out / LOG, trainer.out / "curves.png")
    return path


def model_card(
    trainer: Trainer, options: dict[str, Any], objective: dict[str, Any], rows: list[dict[str, Any]]
) -> str:
    """The card: what the weights are, how they came about, what they reach."""
    recipe = trainer.recipe
    weights = sum(p.numel() for p in trainer.ema["model"].parameters())
    processors = f"{os.cpu_count()} x {processor_name()}"
    device = torch.cuda.get_device_name() if trainer.device.type == "cuda" else processors
    machines = f"{device}, {trainer.processes.world} process(es)"
    start = f"`{json.dumps(to_mapping(recipe.start))}`" if recipe.start else "random weights"
    branch, skipped = trainer.schedule.branch, trainer.guard.skipped
    decay = f"; the last {branch.steps:,}: a decay of the learning rate" if branch else ""
    left_out = f"; {skipped} skipped" if skipped else ""
    points = "\n".join(
        f"| {r['rate']:.2f} | {r['bpp']:.3f} | {r['psnr']:.2f} | "
        f"{100 * r['last_level_bpp'] / r['bpp']:.1f} % |"
        for r in rows
    )
    return f"""# Model card: {recipe.model}

{weights:,} weights; averaged (EMA), large kernels stored as int8, other large tensors as float16.

| | |
|---|---|
| options | `{json.dumps(options)}` |
| objective | `{json.dumps(objective)}` |
| begun with | {start} |
| data | {len(trainer.crops.files)} images for training, {len(trainer.validation.files)} held out |
| schedule | `{json.dumps(to_mapping(recipe.schedule))}` |
| optimiser | `{json.dumps(to_mapping(recipe.optimizer))}` |
| averaging | `{json.dumps(to_mapping(recipe.ema))}` |
| steps | {trainer.step:,}{decay}{left_out} |
| time | {trainer.seconds / 60:.0f} minutes of steps |
| hardware | {machines}, torch {torch.__version__}, {trainer.dtype} |

Held-out images (centre 256x256) as the training pass sees them: the bits of coded samples are
their KL, those of symbols -log2 p; the picture is that of a plain sample, or of noisy symbols.

| rate | bpp | PSNR (dB) | last part's share |
|---|---|---|---|
{points}
"""


def plot_curves(log: Path, target: Path) -> None:
    """Loss over steps, and the held-out rate-distortion curve as it moved."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    records = read_log(log)
    steps = [r for r in records if r["kind"] == "step"]
    validations = [r for r in records if r["kind"] == "validation"]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    losses = [r["loss"] for r in steps]
    left.plot([r["step"] for r in steps], losses, linewidth=0.8)
    scale = "log" if min(losses, default=1) > 0 else "linear"  # a log-likelihood has any sign
    left.set(xlabel="step", ylabel="loss", yscale=scale, title="training loss")
    colours = pyplot.get_cmap("viridis")
    for i, record in enumerate(validations):
        rows = record["rows"]
        right.plot(
            [r["bpp"] for r in rows],
            [r["psnr"] for r in rows],
            color=colours(i / max(1, len(validations) - 1)),
            marker=".",
            label=f"step {record['step']}" if i in (0, len(validations) - 1) else None,
        )
    right.set(xlabel="bits per pixel", ylabel="PSNR (dB)", title="held-out images, theoretical")
    if validations:
        right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    write_atomically(target, lambda file: figure.savefig(file, format="png", dpi=120))
    pyplot.close(figure)
