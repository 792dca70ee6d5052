"""Branches: a decay of the learning rate that leaves a run which goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training_runs import assert_same_state, recipe, trainer

from toolkit.errors import InputError, UsageError
from toolkit.options import parse_options, to_mapping
from toolkit.training.folder import locked
from toolkit.training.recipe import Recipe, Schedule
from toolkit.training.schedule import RunSchedule

STEPS = 6


def endless(photos: Path, **changes: Any) -> Recipe:
    schedule = {
        "shape": "constant",
        "warmup": 2,
        "floor": 0.1,
        "phases": [{"until_step": 3, "crop": 64, "batch": 2}, {"crop": 96, "batch": 1}],
    }
    return recipe(photos, schedule={**schedule, **changes})


@pytest.fixture
def run(photos: Path, tmp_path: Path) -> Path:
    """The folder of a run of four steps that has no end."""
    main = trainer(endless(photos), tmp_path / "run")
    for _ in range(4):
        main.train_step()
    main.save()
    return main.out


def test_a_run_without_an_end_stops_when_it_is_told(photos: Path, tmp_path: Path) -> None:
    main = trainer(endless(photos), tmp_path)
    main.run(max_seconds=0.3)
    assert main.step > 0
    assert main.checkpoint.exists()
    assert main.progress == 0


def test_a_branch_decays_and_resumes_exactly_while_its_run_goes_on(
    photos: Path, tmp_path: Path, run: Path
) -> None:
    plan = endless(photos)
    before = (run / "checkpoint.pt").read_bytes()
    whole = trainer(plan, tmp_path / "whole", (run, STEPS))
    scales = [whole.schedule.learning_rate_scale(step, 0) for step in range(4, 4 + STEPS)]
    whole.run()
    assert whole.step == 4 + STEPS
    assert scales[0] == 1
    assert scales == sorted(scales, reverse=True)
    assert scales[-1] < 0.2
    assert whole.schedule.phase(whole.step, 0).crop == 96

    first = trainer(plan, tmp_path / "parts", (run, STEPS))
    for _ in range(2):
        first.train_step()
    first.save()
    assert (run / "checkpoint.pt").read_bytes() == before
    main = trainer(plan, run)  # meanwhile the run goes on
    main.train_step()
    main.save()
    trainer(plan, tmp_path / "parts", (run, STEPS)).run()
    assert_same_state(tmp_path / "whole", tmp_path / "parts")
    assert main.schedule.learning_rate_scale(main.step, 0) == 1


def test_branches_that_cannot_be_are_refused(photos: Path, tmp_path: Path, run: Path) -> None:
    plan = endless(photos)
    with pytest.raises(InputError, match="no checkpoint to branch from"):
        trainer(plan, tmp_path / "new", (tmp_path / "none", STEPS))
    with pytest.raises(UsageError, match="isn't a branch"):
        trainer(plan, run, (tmp_path / "none", STEPS))
    trainer(plan, tmp_path / "branch", (run, STEPS))
    with pytest.raises(UsageError, match="is a branch of 6 steps"):
        trainer(plan, tmp_path / "branch", (run, STEPS + 1))
    with pytest.raises(UsageError, match="is a branch itself"):
        trainer(plan, tmp_path / "twig", (tmp_path / "branch", STEPS))
    other = recipe(photos, objective={"distortion": "mae"})
    with pytest.raises(UsageError, match="another model or objective"):
        trainer(other, tmp_path / "other", (run, STEPS))


def test_the_program_branches_off_a_run_that_is_going_on(
    photos: Path, tmp_path: Path, run: Path, toolkit_main: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "recipe.yaml").write_text(json.dumps(to_mapping(endless(photos))))
    command = ["train", tmp_path / "recipe.yaml", "--out", run]
    branch = [*command, "--branch", tmp_path / "branch", "--decay-steps", 2]
    with locked(run):
        status, out, err = toolkit_main(*branch)
        assert status == 0, err
        assert "decay of 2 steps from step 4" in out
        assert toolkit_main(*command)[0] == 2
    assert (tmp_path / "branch" / "pln.safetensors").exists()
    assert "| steps | 6; the last 2: a decay" in (tmp_path / "branch" / "pln.md").read_text()
    with locked(tmp_path / "branch"):
        status, _, err = toolkit_main(*branch)
    assert status == 2
    assert "another run writes there" in err
    assert toolkit_main(*command[:-1], tmp_path / "none", "--export-only")[0] == 3
    for wrong in ([*command, "--branch", run, "--decay-steps", 2], branch[:-2], ["train"]):
        status, _, err = toolkit_main(*wrong)
        assert status == 2
        assert err.startswith("toolkit: ")


def test_schedules_that_never_end_fall_as_they_say() -> None:
    def scale(step: int, **options: Any) -> float:
        values = {"warmup": 0, "decay": 0.96, "every": 1500, **options}
        schedule = RunSchedule(parse_options(Schedule, values, "test"))
        assert not schedule.bounded
        return schedule.learning_rate_scale(step, 0)

    assert scale(10**6, shape="constant") == 1
    assert scale(4500, shape="exponential") == pytest.approx(0.96**3)
    assert scale(750, shape="exponential") == pytest.approx(0.96**0.5)
    assert scale(4499, shape="staircase") == pytest.approx(0.96**2)
    assert scale(4, shape="staircase", warmup=10) == pytest.approx(0.5)
