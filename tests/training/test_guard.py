"""Single bad steps are skipped, and a resumed run skips what an unbroken one does."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training_runs import assert_same_state, recipe, trainer

from toolkit.training.guard import StepGuard, TrainingDiverged
from toolkit.training.loop import Trainer
from toolkit.training.recipe import Guard, Phase


def test_what_is_a_bad_step() -> None:
    guard = StepGuard(Guard(history=5, least=3))
    assert "loss is nan" in guard.fault(math.nan, 1.0)
    assert "loss is inf" in guard.fault(math.inf, 1.0)
    assert "gradient norm is nan" in guard.fault(1.0, math.nan)
    assert not guard.fault(1.0, 1.0)
    assert not guard.fault(1.0, 50.0)  # too few norms yet to say what is usual
    assert not guard.fault(1.0, 2.0)
    assert "11 times the median" in guard.fault(1.0, 22.0)
    assert not guard.fault(1.0, 20.0)
    for _ in range(5):
        assert not guard.fault(1.0, 0.1)  # what was usual is forgotten
    assert guard.fault(1.0, 2.0)
    assert guard.skipped == 5


def test_without_a_factor_only_what_is_not_finite_is_bad() -> None:
    guard = StepGuard(Guard(factor=None, least=1))
    assert not guard.fault(1.0, 1.0)
    assert not guard.fault(1.0, 1e9)
    assert guard.fault(1.0, math.inf)


def test_too_many_in_a_row_end_the_run_with_advice() -> None:
    guard = StepGuard(Guard(in_a_row=3))
    for norm in (math.nan, math.nan, 1.0, math.nan, math.nan):
        guard.fault(1.0, norm)
    with pytest.raises(TrainingDiverged, match=r"3 steps in a row .* lower learning rate"):
        guard.fault(1.0, math.nan)
    assert TrainingDiverged.exit_status == 5


def with_bad_batches(run: Trainer, scales: dict[int, float]) -> Trainer:
    """Multiplies the images of some steps."""
    batch = run.batches.at

    def at(step: int, phase: Phase) -> tuple[Tensor, Tensor]:
        x, rate = batch(step, phase)
        return x * scales.get(step, 1.0), rate

    run.batches.at = at  # type: ignore[method-assign]
    return run


def test_a_bad_step_changes_no_weights_and_a_resumed_run_skips_the_same(
    photos: Path, tmp_path: Path
) -> None:
    plan = recipe(photos, guard={"least": 3, "history": 4})
    bad = {1: math.nan, 6: 1e4, 8: 1e4}  # step 8 is judged by norms from before the interruption
    whole = with_bad_batches(trainer(plan, tmp_path / "whole"), bad)
    for _ in range(6):
        whole.train_step()
    before = {key: value.clone() for key, value in whole.parts.state_dict().items()}
    whole.train_step()
    assert all(torch.equal(value, before[key]) for key, value in whole.parts.state_dict().items())
    whole.run()
    assert whole.guard.skipped == 3
    lines = (tmp_path / "whole" / "log.jsonl").read_text().splitlines()
    skips = [record for record in map(json.loads, lines) if record["kind"] == "skip"]
    assert [record["step"] for record in skips] == [2, 7, 9]

    first = with_bad_batches(trainer(plan, tmp_path / "parts"), bad)
    for _ in range(8):
        first.train_step()
    first.save()
    with_bad_batches(trainer(plan, tmp_path / "parts"), bad).run()
    assert_same_state(tmp_path / "whole", tmp_path / "parts")


def test_a_run_of_bad_steps_ends_and_leaves_the_last_checkpoint(
    photos: Path, tmp_path: Path
) -> None:
    plan = recipe(photos, guard={"in_a_row": 2})
    run = with_bad_batches(trainer(plan, tmp_path), dict.fromkeys(range(4, 12), math.nan))
    for _ in range(3):
        run.train_step()
    run.save()
    with pytest.raises(TrainingDiverged):
        run.run()
    assert trainer(plan, tmp_path).step == 3
