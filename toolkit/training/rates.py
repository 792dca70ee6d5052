"""Training of what guesses the rates of a ladder's latent elements, for weights that are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from toolkit.entropy_model.base import LadderModel
from toolkit.entropy_model.network import arithmetic, encoder_dtype, load_model
from toolkit.errors import UsageError
from toolkit.format.weights import write_weights_with_rates
from toolkit.sampling.rate_prediction import STEPS, RatePredictor
from toolkit.training.data import Crops, image_files, split
from toolkit.training.rate_network import Batch, RateNetwork, mean_error, sample_batch

if TYPE_CHECKING:
    from toolkit.plugin.specs import EntropyModelSpec

LEARNING_RATE = 3e-3
_MEMORY_MB = 2000
_HELD_BATCHES = 12


@dataclass(frozen=True)
class RatesPlan:
    """How to train."""

    steps: int
    """The learning rate falls to 0 over the last two thirds."""
    pool: int
    """Batches: to sample the ladder takes ten times as long as a step, so they come again."""
    crop: int
    """Side of the crops, in pixels."""
    batch: int
    """Crops in a batch."""
    width: int
    """Channels of the maps."""
    hold_out: int
    """Images that it never sees."""
    seed: int


def train_rates_of(
    spec: EntropyModelSpec,
    weights: Path,
    folder: Path,
    out: Path,
    plan: RatesPlan,
    on_step: Callable[[str], None] = lambda title: None,
) -> float:
    """Train it and write the weights with it; returns the mean error on images held out.

    Arguments:
        spec: the weights' model.
        weights: a ladder's weights file.
        folder: of photographs.
        out: the weights file to write.
        plan: how.
        on_step: is called after each batch that is sampled and each step.

    Returns:
        Octaves, as ``mean_error`` counts them; NaN where none are held out.

    Raises what ``load_model`` does, InputError where there are too few images, and UsageError for a
    model that isn't a ladder.
    """
    model = load_model(spec, weights)
    if not isinstance(model, LadderModel):
        raise UsageError(f"{weights}: model '{spec.name}' sends no samples")
    files, held = split(image_files(folder), plan.hold_out)
    torch.manual_seed(plan.seed)
    pool = []
    for batch in _batches(model, files, plan, plan.pool, plan.batch):
        pool.append(batch)
        on_step("sampling")
    network = _trained(pool, plan, on_step)
    tensors = network.tensors()
    write_weights_with_rates(weights, out, tensors)
    if not held:
        return float("nan")
    predictor = RatePredictor.from_tensors({k: v.numpy() for k, v in tensors.items()})
    assert predictor is not None
    tests = _batches(model, held, plan, _HELD_BATCHES, 1)
    return float(np.mean([_error(predictor, batch) for batch in tests]))


def _batches(
    model: LadderModel, files: list[Path], plan: RatesPlan, count: int, size: int
) -> Iterator[Batch]:
    stride = model.stride
    crop = -(-max(plan.crop, model.least_side) // stride) * stride
    crops = Crops(files, memory_mb=_MEMORY_MB, seed=plan.seed, least=crop)
    generator = np.random.default_rng([plan.seed, len(files)])
    for number in range(count):
        # stratified: every batch, or few of them, see the whole range of rates
        parts = generator.permutation(size) if size > 1 else np.array([number])
        rates = (parts + generator.random(size)) / max(size, count if size == 1 else 1)
        x = torch.from_numpy(crops.batch(number, crop, size)).float().div(255)
        with arithmetic(encoder_dtype()):
            yield sample_batch(model, x, torch.from_numpy(rates.astype(np.float32)))


def _trained(pool: list[Batch], plan: RatesPlan, on_step: Callable[[str], None]) -> RateNetwork:
    network = RateNetwork([sample.shape[1] for sample in pool[0].samples], plan.width)
    network.begin(pool)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    for step in range(plan.steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, 1.5 * (plan.steps - step) / plan.steps)
        optimizer.zero_grad()
        loss = network.loss(pool[int(torch.randint(len(pool), ()))])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        on_step(f"loss {float(loss.detach()):.3f}")
    return network


def _error(predictor: RatePredictor, batch: Batch) -> float:
    """Of the guesses in whole numbers, for one image."""
    walk = predictor.begin(float(batch.rates[0]))
    octaves = []
    for sample in batch.samples:
        c = sample[0].numpy()
        guesses = walk.octaves((c.shape[0], c.shape[1], c.shape[2]))
        octaves.append(torch.from_numpy(guesses.astype(np.float32))[None] / STEPS)
        walk.add(c)
    return float(mean_error(octaves, batch.bits))
