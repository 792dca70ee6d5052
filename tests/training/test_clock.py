"""A schedule in minutes counts the steps' time, not that of a process that was suspended."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import Tensor
from training_runs import recipe, trainer

from toolkit.training import loop
from toolkit.training.clock import FACTOR, HISTORY, StepClock
from toolkit.training.recipe import Phase


def test_a_step_counts_for_a_few_times_the_usual_at_most() -> None:
    clock = StepClock()
    assert clock.counted(2.0) == 2.0  # nothing to compare it with
    assert [clock.counted(took) for took in (1.0, 1.0, 3.0, 0.5)] == [1.0, 1.0, 3.0, 0.5]
    assert clock.counted(1800.0) == FACTOR * 1.0
    assert clock.counted(1.0) == 1.0


def test_longer_steps_soon_count_in_full() -> None:
    clock = StepClock()
    for _ in range(100):
        clock.counted(1.0)
    counted = [clock.counted(8.0) for _ in range(HISTORY)]
    assert counted[0] == FACTOR
    assert counted[HISTORY // 2 + 1 :] == [8.0] * (HISTORY // 2 - 1)


def test_half_an_hour_asleep_does_not_end_a_run(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    clock = SimpleNamespace(perf_counter=lambda: now, monotonic=time.monotonic)
    monkeypatch.setattr(loop, "time", clock)
    phases = [{"until": 1, "crop": 64, "batch": 2}]
    plan = recipe(photos, schedule={"steps": 1000, "minutes": 10, "phases": phases})
    run = trainer(plan, tmp_path)
    batch = run.batches.at

    def at(step: int, phase: Phase) -> tuple[Tensor, Tensor]:
        nonlocal now
        now += 1800.0 if step == 3 else 2.0
        return batch(step, phase)

    run.batches.at = at  # type: ignore[method-assign]
    for _ in range(5):
        run.train_step()
    assert run.seconds == 4 * 2.0 + 2.0 * FACTOR
    assert run.progress == run.seconds / 600
    assert "step 4 took 1800 s, of which 10.0 s count" in (tmp_path / "log.jsonl").read_text()
