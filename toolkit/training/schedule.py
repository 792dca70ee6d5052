"""Where a run stands: progress, crop size and learning rate at a step; decays that branch off."""

from __future__ import annotations

import math

from toolkit.options import Options
from toolkit.training.recipe import Phase, Schedule


class Branch(Options, frozen=True):
    """A decay of the learning rate that left a run: from step ``start`` on, ``steps`` long.

    All that its schedule depends on, as it was in the run where it left it, so that a branch is
    the same whatever becomes of the run.
    """

    start: int
    steps: int
    progress: float
    """Of the run; crop and batch size stay what they were."""
    scale: float
    """Share of the full learning rate at the start ..."""
    floor: float
    """... and the part of that at the end."""


class RunSchedule:
    """A recipe's schedule, or that of a ``branch``, at any step."""

    def __init__(self, options: Schedule, branch: Branch | None = None) -> None:
        self.options, self.branch = options, branch

    @property
    def bounded(self) -> bool:
        """Whether the run has an end of its own."""
        return bool(self.branch or self.options.steps or self.options.minutes)

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is done, by steps or by time, whichever is further; 0 where the
        length isn't known."""
        if self.branch is not None:
            return (step - self.branch.start) / self.branch.steps
        return self._run_progress(step, seconds)

    def _run_progress(self, step: int, seconds: float) -> float:
        by_steps = step / self.options.steps if self.options.steps else 0.0
        by_time = seconds / (60 * self.options.minutes) if self.options.minutes else 0.0
        return max(by_steps, by_time)

    def phase(self, step: int, seconds: float) -> Phase:
        """Crop and batch size of a step."""
        progress = self._run_progress(step, seconds)
        if self.branch is not None:
            step, progress = self.branch.start, self.branch.progress
        for phase in self.options.phases:
            by_step = phase.until_step is None or step < phase.until_step
            if by_step and progress < phase.until:
                return phase
        return self.options.phases[-1]

    def learning_rate_scale(self, step: int, seconds: float) -> float:
        """Share of the full learning rate at a step."""
        progress = self.progress(step, seconds)
        if self.branch is not None:
            return self.branch.scale * cosine(progress, self.branch.floor)
        options = self.options
        warm = min(1.0, (step + 1) / options.warmup) if options.warmup else 1.0
        if options.shape == "exponential":
            return warm * options.decay ** (step / options.every)
        if options.shape == "staircase":
            return warm * options.decay ** (step // options.every)
        if options.shape == "constant" or progress <= options.flat:
            return warm
        return warm * cosine((progress - options.flat) / (1 - options.flat), options.floor)


def cosine(progress: float, floor: float) -> float:
    """From 1 to ``floor`` along half a cosine, as ``progress`` goes from 0 to 1."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
