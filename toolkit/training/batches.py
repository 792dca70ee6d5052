"""What a step trains on: images and rates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from toolkit.training.data import Crops, CropSource
from toolkit.training.patches import Patches
from toolkit.training.processes import Processes
from toolkit.training.recipe import Phase, Recipe


def crop_source(recipe: Recipe, files: list[Path]) -> CropSource:
    """Random crops of ``files``, or the thesis's patches, as the recipe says."""
    data, size = recipe.data, max(phase.crop for phase in recipe.schedule.phases)
    if data.patches is None:
        return Crops(files, memory_mb=data.memory_mb, seed=recipe.seed, least=size)
    return Patches(
        files, per_tile=data.patches, size=size, memory_mb=data.memory_mb, seed=recipe.seed
    )


class Batches:
    """Batches of a run, a process's share of each; functions of (files, seed, step) alone."""

    def __init__(
        self, crops: CropSource, seed: int, processes: Processes, device: torch.device
    ) -> None:
        self.crops, self.seed = crops, seed
        self.processes, self.device = processes, device

    def at(self, step: int, phase: Phase) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) in [0, 1] and rates (B,) in [0, 1] of a step."""
        crops = self.crops.batch(step, phase.crop, phase.batch)
        rng = np.random.Generator(np.random.Philox(key=[self.seed, 3], counter=[0, 0, 0, step]))
        # stratified over the batch: every batch sees the whole range of rates
        rates = (rng.permutation(phase.batch) + rng.random(phase.batch)) / phase.batch
        share = slice(self.processes.rank, None, self.processes.world)
        x = torch.from_numpy(crops[share]).to(self.device).float() / 255
        rate = torch.from_numpy(rates[share].astype(np.float32)).to(self.device)
        return x.contiguous(memory_format=torch.channels_last), rate
