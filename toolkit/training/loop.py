"""The training loop: puts a run together out of its parts and takes its steps."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from toolkit.errors import UsageError
from toolkit.training.averages import update_average
from toolkit.training.batches import Batches, crop_source
from toolkit.training.checkpoint import (
    begin_branch,
    check_same_run,
    read_checkpoint,
    write_checkpoint,
)
from toolkit.training.clock import StepClock
from toolkit.training.data import image_files, split
from toolkit.training.device import ThreadTuner, autocast, choose_device, choose_precision
from toolkit.training.folder import CHECKPOINT
from toolkit.training.guard import StepGuard
from toolkit.training.log import Logger, TrainingLog
from toolkit.training.objective import RateDistortion, TrainableModel
from toolkit.training.optim import MixedOptimizer
from toolkit.training.processes import Processes
from toolkit.training.recipe import Recipe
from toolkit.training.schedule import RunSchedule
from toolkit.training.start import begin
from toolkit.training.stop import StopRequest
from toolkit.training.validation import Validation


class Trainer:
    """Trains ``model`` (a ``TrainableModel``) by ``recipe`` into the folder ``out``.

    ``out`` holds ``checkpoint.pt`` (resumes exactly), ``log.jsonl`` and, at the end, what
    ``toolkit.training.export`` makes of them; whoever runs a Trainer locks the folder
    (``toolkit.training.folder.locked``). With ``branch``, a folder of another run and a number of
    steps, ``out`` is a branch of that run (``begin_branch``). ``loggers`` are called with each
    record of the log. Under torchrun every process takes its share of each batch.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        out: Path,
        branch: tuple[Path, int] | None = None,
        loggers: Sequence[Logger] = (),
    ) -> None:
        self.recipe, self.out = recipe, out
        self.processes = Processes.from_environment()
        self.device = choose_device(recipe, self.processes.local_rank)
        self.dtype = choose_precision(recipe, self.device)
        self.processes.connect(self.device)
        world = self.processes.world
        if any(phase.batch % world for phase in recipe.schedule.phases):
            raise UsageError(f"batch sizes must be multiples of the {world} processes")
        if branch is not None:
            if self.processes.first:
                begin_branch(branch[0], out, branch[1], recipe)
            self.processes.wait()
        train, held = split(image_files(Path(recipe.data.folder)), recipe.data.hold_out)
        self.crops = crop_source(recipe, train)
        if recipe.start and not self.checkpoint.exists():
            begin(model, recipe, recipe.start, self.crops)
        self._assemble(model)
        self.validation = Validation(held, recipe.objective, self.device, self.dtype)
        self.log = TrainingLog(out, not self.processes.first, loggers)
        self.resume()

    def _assemble(self, model: nn.Module) -> None:
        recipe = self.recipe
        self.objective = RateDistortion(recipe.objective)
        self.parts = nn.ModuleDict({"model": model, "objective": self.objective}).to(self.device)
        self.ema = copy.deepcopy(self.parts).requires_grad_(False)
        training_pass = cast(TrainableModel, model).training_pass
        self.training_pass = torch.compile(training_pass) if recipe.compile else training_pass
        self.batches = Batches(self.crops, recipe.seed, self.processes, self.device)
        self.optimizer = MixedOptimizer(self.parts, recipe.optimizer)
        self.guard = StepGuard(recipe.guard)
        self.schedule = RunSchedule(recipe.schedule)
        self.step, self.seconds, self.clock = 0, 0.0, StepClock()
        self.stop, self.stopping = StopRequest(), False

    # -- state -----------------------------------------------------------------

    @property
    def checkpoint(self) -> Path:
        return self.out / CHECKPOINT

    def save(self) -> None:
        """Write the checkpoint; the old one stands until the new one is complete."""
        if not self.processes.first:
            return
        state = {
            "parts": self.parts.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "guard": self.guard.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        write_checkpoint(self.checkpoint, self.recipe, self.schedule.branch, state)

    def resume(self) -> None:
        """Go on from the checkpoint in ``out`` if there is one."""
        if not self.checkpoint.exists():
            return
        state = read_checkpoint(self.checkpoint)
        check_same_run(self.checkpoint, state["recipe"], self.recipe)
        self.parts.load_state_dict(state["parts"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        if "guard" in state:  # checkpoints from before there was one don't have it
            self.guard.load_state_dict(state["guard"])
        self.schedule = RunSchedule(self.recipe.schedule, state["branch"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.log.resumed(self.step, self.seconds)

    @property
    def progress(self) -> float:
        """Share of the run that is done; 0 where its length isn't known."""
        return self.schedule.progress(self.step, self.seconds)

    # -- work ------------------------------------------------------------------

    def run(self, max_seconds: float | None = None) -> None:
        """Train until the schedule's end, or for ``max_seconds``; leaves a checkpoint.

        Raises KeyboardInterrupt, the checkpoint written, where SIGINT or SIGTERM asked to stop,
        and TrainingDiverged where nearly every step is a bad one.
        """
        tuner = ThreadTuner(self.recipe.threads if self.device.type == "cpu" else 1)
        started = time.monotonic()
        saved = validated = started
        self.stopping = False
        with self.stop:
            self._say_what_runs()
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

    def _say_what_runs(self) -> None:
        weights = sum(p.numel() for p in self.parts.parameters())
        branch = self.schedule.branch
        self.log.note(
            f"{self.recipe.model}: {weights / 1e6:.2f} M weights, {self.device}, "
            f"{str(self.dtype).removeprefix('torch.')}, {len(self.crops.files)} images, "
            f"{len(self.validation.files)} held out, {self.processes.world} process(es)"
            + (f"; decay of {branch.steps} steps from step {branch.start}" if branch else "")
        )

    def train_step(self) -> None:
        """One optimiser step, or none where the guard skips it."""
        start = time.perf_counter()
        world, rank = self.processes.world, self.processes.rank
        torch.manual_seed((self.recipe.seed << 32) + self.step * world + rank)
        x, rate = self.batches.at(self.step, self.schedule.phase(self.step, self.seconds))
        with autocast(self.device, self.dtype):
            result = self.training_pass(x, rate)
        loss = self.objective(x, rate, result, self.step)
        loss.value.backward()
        value = self.processes.average(self.optimizer.parameters, loss.value)
        norm = self.optimizer.clip_gradients()
        fault = self.guard.fault(value, norm)
        scale = self.schedule.learning_rate_scale(self.step, self.seconds)
        if not fault:
            self.optimizer.step(scale)
        self.optimizer.clear_gradients()
        self.step += 1
        update_average(self.ema, self.parts, self.recipe.ema, self.step)
        seconds = self.seconds + self._counted(time.perf_counter() - start)
        self.seconds, self.stopping = self.processes.follow_first(
            seconds, self.stop.asked, self.device
        )
        if fault:
            self.log.skip(self.step, fault, self.guard.skipped)
            return
        progress = self.progress if self.schedule.bounded else float("nan")
        self.log.step(self.step, self.seconds, progress, loss, norm, scale)

    def _counted(self, took: float) -> float:
        """Seconds that the step counts for; the log says where it isn't all that it took."""
        counted = self.clock.counted(took)
        if took > counted + 60:
            self.log.note(f"step {self.step} took {took:.0f} s, of which {counted:.1f} s count")
        return counted

    def validate(self) -> list[dict[str, Any]]:
        """Figures of the averaged weights on the held-out images; written to the log."""
        if not self.validation.files or not self.processes.first:
            return []
        rows = self.validation.run(cast(TrainableModel, self.ema["model"]))
        self.log.validation(self.step, self.seconds, rows)
        return rows
