"""The training loop: steps, validation, checkpoints, log; one process a device."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import msgspec
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from toolkit.errors import InputError, UsageError
from toolkit.format.files import write_atomically
from toolkit.options import to_mapping
from toolkit.training.data import Crops, image_files, load_rgb, split
from toolkit.training.device import ThreadTuner, autocast, choose_device, choose_precision
from toolkit.training.log import TrainingLog
from toolkit.training.objective import AddsChannels, RateDistortion, TrainableModel
from toolkit.training.optim import MixedOptimizer, learning_rate_scale
from toolkit.training.recipe import Recipe, Start
from toolkit.training.start import begin_with
from toolkit.training.stop import StopRequest

VALIDATION_RATES = (0.0, 0.25, 0.5, 0.75, 1.0)
VALIDATION_CROP = 256
GROWTH_BATCHES = 64
"""Batches of four crops that new channels are fitted to, those of steps that never come."""
FIRST_STEP_OF_GROWTH = 1 << 40


class Trainer:
    """Trains ``model`` (a ``TrainableModel``) by ``recipe`` into the folder ``out``.

    ``out`` holds ``checkpoint.pt`` (resumes exactly: model, averages, optimisers, step and
    time), ``log.jsonl`` and, at the end, what ``toolkit.training.export`` makes of them.
    Under torchrun every process takes its share of each batch.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, out: Path) -> None:
        self.recipe, self.out = recipe, out
        self.rank = int(os.environ.get("RANK", "0"))
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.device = choose_device(recipe, int(os.environ.get("LOCAL_RANK", "0")))
        self.dtype = choose_precision(recipe, self.device)
        if self.world > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
        phases = recipe.schedule.phases
        self.crop = max(phase.crop for phase in phases)
        if any(phase.batch % self.world for phase in phases):
            raise UsageError(f"batch sizes must be multiples of the {self.world} processes")
        train, held = split(image_files(Path(recipe.data.folder)), recipe.data.hold_out)
        self.crops = Crops(
            train, memory_mb=recipe.data.memory_mb, seed=recipe.seed, least=self.crop
        )
        self.held = held
        if recipe.start and not self.checkpoint.exists():
            self._begin(model, recipe.start)
        self.objective = RateDistortion(recipe.objective)
        self.parts = nn.ModuleDict({"model": model, "objective": self.objective})
        self.parts.to(self.device)
        self.model = cast(TrainableModel, model)
        self.ema = copy.deepcopy(self.parts).requires_grad_(False)
        self.optimizer = MixedOptimizer(self.parts, recipe.optimizer)
        self.step, self.seconds = 0, 0.0
        self.stop, self.stopping = StopRequest(), False
        self.log = TrainingLog(out, quiet=self.rank > 0)
        self.resume()

    def _begin(self, model: nn.Module, start: Start) -> None:
        objective = self.recipe.objective
        known = begin_with(model, self.recipe.model, start, objective)
        if isinstance(model, AddsChannels) and known is not None:
            batches = range(FIRST_STEP_OF_GROWTH, FIRST_STEP_OF_GROWTH + GROWTH_BATCHES)
            crops = (self.crops.batch(step, self.crop, 4) for step in batches)
            images = [torch.from_numpy(c).float() / 255 for c in crops]
            model.add_channels(images, known, start.opens, objective)

    # -- state -----------------------------------------------------------------

    @property
    def checkpoint(self) -> Path:
        return self.out / "checkpoint.pt"

    def save(self) -> None:
        """Write the checkpoint; the old one stands until the new one is complete."""
        if self.rank > 0:
            return
        state = {
            "recipe": json.dumps(to_mapping(self.recipe)),
            "parts": self.parts.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        write_atomically(self.checkpoint, lambda file: torch.save(state, file))

    def resume(self) -> None:
        """Go on from the checkpoint in ``out`` if there is one."""
        if not self.checkpoint.exists():
            return
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            before = msgspec.convert(json.loads(state["recipe"]), Recipe)
        except (OSError, RuntimeError, ValueError, KeyError, EOFError, UnpicklingError) as error:
            raise InputError(
                f"{self.checkpoint}: not a checkpoint ({type(error).__name__})"
            ) from None
        same = ("model", "options", "objective")
        if any(getattr(before, key) != getattr(self.recipe, key) for key in same):
            raise UsageError(
                f"{self.checkpoint} is of another model or objective; choose another --out"
            )
        self.parts.load_state_dict(state["parts"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.log.note(f"resumed at step {self.step}, {self.seconds / 60:.1f} min")

    # -- schedule --------------------------------------------------------------

    @property
    def progress(self) -> float:
        """Share of the run that is done, by steps or by time, whichever is further."""
        schedule = self.recipe.schedule
        by_steps = self.step / schedule.steps if schedule.steps else 0.0
        by_time = self.seconds / (60 * schedule.minutes) if schedule.minutes else 0.0
        return max(by_steps, by_time)

    # -- work ------------------------------------------------------------------

    def run(self, max_seconds: float | None = None) -> None:
        """Train until the schedule's end, or for ``max_seconds``; leaves a checkpoint.

        Raises KeyboardInterrupt, the checkpoint written, where SIGINT or SIGTERM asked to stop.
        """
        tuner = ThreadTuner(self.recipe.threads if self.device.type == "cpu" else 1)
        started = time.monotonic()
        saved = validated = started
        self.stopping = False
        with self.stop:
            self.log.start(self)
            while self.progress < 1 and not self.stopping:
                if max_seconds and time.monotonic() - started > max_seconds:
                    break
                tuner.run(self.train_step)
                now = time.monotonic()
                if now - validated > 60 * self.recipe.validate_minutes:
                    self.validate()
                    validated = now
                if now - saved > 60 * self.recipe.checkpoint_minutes:
                    self.save()
                    saved = now
            self.save()
        if self.stopping:
            raise KeyboardInterrupt
        self.validate()

    def _synchronise(self, seconds: float, stop: bool) -> tuple[float, bool]:
        """The first process's clock and whether it is to stop: all of them follow it."""
        if self.world == 1:
            return seconds, stop
        shared = torch.tensor([seconds, stop], device=self.device, dtype=torch.float64)
        dist.broadcast(shared, 0)
        return float(shared[0]), bool(shared[1])

    def _average_gradients(self) -> None:
        gradients = [p.grad for p in self.optimizer.parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        dist.all_reduce(flat)
        flat /= self.world
        at = 0
        for gradient in gradients:
            gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
            at += gradient.numel()

    def _batch(self) -> tuple[Tensor, Tensor]:
        """This process's share of the step's batch: images and rates."""
        progress = self.progress
        phases = self.recipe.schedule.phases
        phase = next((p for p in phases if progress < p.until), phases[-1])
        crops = self.crops.batch(self.step, phase.crop, phase.batch)
        key = [self.recipe.seed, 3]
        rng = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, self.step]))
        # stratified over the batch: every batch sees the whole range of rates
        rates = (rng.permutation(phase.batch) + rng.random(phase.batch)) / phase.batch
        share = slice(self.rank, None, self.world)
        x = torch.from_numpy(crops[share]).to(self.device).float() / 255
        rate = torch.from_numpy(rates[share].astype(np.float32)).to(self.device)
        return x.contiguous(memory_format=torch.channels_last), rate

    def train_step(self) -> None:
        """One optimiser step."""
        start = time.perf_counter()
        torch.manual_seed((self.recipe.seed << 32) + self.step * self.world + self.rank)
        x, rate = self._batch()
        with autocast(self.device, self.dtype):
            result = self.model.training_pass(x, rate)
        loss = self.objective(x, rate, result, self.step)
        loss.value.backward()
        if self.world > 1:
            self._average_gradients()
        scale = learning_rate_scale(self.recipe.schedule, self.step, self.progress)
        norm = self.optimizer.step(scale)
        self.step += 1
        if self.step % self.recipe.ema.every == 0:
            self._update_ema()
        seconds = self.seconds + time.perf_counter() - start
        self.seconds, self.stopping = self._synchronise(seconds, self.stop.asked)
        self.log.step(self.step, self.seconds, self.progress, loss, norm, scale)

    def _update_ema(self) -> None:
        # a short memory at first, so that the average forgets the initial weights
        decay = min(self.recipe.ema.decay, 1 - 1 / (1 + self.step / self.recipe.ema.every))
        with torch.no_grad():
            pairs = zip(self.ema.parameters(), self.parts.parameters(), strict=True)
            for average, value in pairs:
                average.lerp_(value, 1 - decay)

    def held_out_image(self, path: Path) -> Tensor:
        """The centre of a held-out image, (1, 3, H, W) in [0, 1]."""
        image = load_rgb(path, VALIDATION_CROP)
        y, x = ((side - VALIDATION_CROP) // 2 for side in image.shape[:2])
        piece = image[y : y + VALIDATION_CROP, x : x + VALIDATION_CROP]
        tensor = torch.from_numpy(piece.copy()).permute(2, 0, 1)[None].to(self.device)
        return tensor.float().div(255).contiguous(memory_format=torch.channels_last)

    def validate(self) -> list[dict[str, Any]]:
        """Averaged weights on the centres of the held-out images, at five rates."""
        if not self.held or self.rank > 0:
            return []
        model = cast(TrainableModel, self.ema["model"])
        sums = {rate: [0.0, 0.0, 0.0] for rate in VALIDATION_RATES}
        torch.manual_seed(0)
        with torch.no_grad():
            for path in self.held:
                tensor = self.held_out_image(path)
                for rate, total in sums.items():
                    with autocast(self.device, self.dtype):
                        result = model.training_pass(tensor, torch.tensor([rate]).to(self.device))
                    bits = [float(b.sum()) for b in result.bits.values()]
                    mse = float((tensor - result.x_hat.clamp(0, 1)).square().mean())
                    total[0] += sum(bits) / VALIDATION_CROP**2
                    total[1] += -10 * math.log10(mse)
                    total[2] += bits[-1] / VALIDATION_CROP**2
        n = len(self.held)
        rows = [
            {"rate": rate, "bpp": a / n, "psnr": b / n, "last_level_bpp": c / n}
            for rate, (a, b, c) in sums.items()
        ]
        self.log.validation(self.step, self.seconds, rows)
        return rows
