"""What a run leaves: weights in safetensors, a model card, the curves."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from toolkit.environment import processor_name
from toolkit.format.files import write_bytes_atomically
from toolkit.format.tensors import pack
from toolkit.options import to_mapping
from toolkit.training.objective import RateDistortion, TidyModel

if TYPE_CHECKING:
    from toolkit.training.loop import Trainer


def export(trainer: Trainer) -> Path:
    """Write ``MODEL.safetensors``, ``MODEL.md`` (the card) and ``curves.png`` of the averaged
    weights into the run's folder; returns the weights' path."""
    from safetensors.torch import save

    recipe = trainer.recipe
    model = trainer.ema["model"]
    options = to_mapping(cast(Any, model).options)
    objective = to_mapping(cast(RateDistortion, trainer.ema["objective"]).learned())
    metadata = {
        "model": recipe.model,
        "options": json.dumps(options),
        "objective": json.dumps(objective),
    }
    if isinstance(model, TidyModel) and trainer.held:
        model = copy.deepcopy(model)  # a checkpoint made later still fits its optimiser
        model.tidy(torch.cat([trainer.held_out_image(path) for path in trainer.held]))
    path = trainer.out / f"{recipe.model}.safetensors"
    write_bytes_atomically(path, save(pack(model.state_dict()), metadata))
    rows = trainer.validate()
    card = model_card(trainer, options, objective, rows)
    write_bytes_atomically(trainer.out / f"{recipe.model}.md", card.encode())
    plot_curves(trainer.out / "log.jsonl", trainer.out / "curves.png")
    return path


def model_card(
    trainer: Trainer, options: dict[str, Any], objective: dict[str, Any], rows: list[dict[str, Any]]
) -> str:
    """The card: what the weights are, how they came about, what they reach."""
    recipe = trainer.recipe
    weights = sum(p.numel() for p in trainer.ema["model"].parameters())
    processors = f"{os.cpu_count()} x {processor_name()}"
    device = torch.cuda.get_device_name() if trainer.device.type == "cuda" else processors
    start = f"`{json.dumps(to_mapping(recipe.start))}`" if recipe.start else "random weights"
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
| data | {len(trainer.crops.files)} images for training, {len(trainer.held)} held out |
| schedule | `{json.dumps(to_mapping(recipe.schedule))}` |
| optimiser | `{json.dumps(to_mapping(recipe.optimizer))}` |
| averaging | `{json.dumps(to_mapping(recipe.ema))}` |
| steps | {trainer.step:,} |
| time | {trainer.seconds / 60:.0f} minutes of steps |
| hardware | {device}, {trainer.world} process(es), torch {torch.__version__}, {trainer.dtype} |

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

    records = [json.loads(line) for line in log.read_text().splitlines()]
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
    figure.savefig(target, dpi=120)
    pyplot.close(figure)
