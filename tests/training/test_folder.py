"""A run's folder is held by one process, and survives any that is killed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_runs import SMALL, assert_same_state, recipe, trainer

from toolkit.errors import InputError, UsageError
from toolkit.options import to_mapping
from toolkit.training.export import export
from toolkit.training.folder import locked
from toolkit.training.log import TrainingLog, read_log
from toolkit.training.recipe import Recipe

TINY = {**SMALL, "widths": [4, 4, 4], "level1_channels": 4, "level2_width": 4}


def test_one_process_holds_a_folder_and_clears_what_was_left(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with locked(folder):
        left = [".checkpoint.pt.ab12_x9z", ".pln.safetensors.abcdefgh", ".curves.png.abcdefgh"]
        kept = ["checkpoint.pt", "notes.md", ".hidden"]
        for name in left + kept:
            (folder / name).touch()
        with pytest.raises(UsageError, match="another run writes there"), locked(folder):
            pass
    with locked(folder):
        names = {path.name for path in folder.iterdir()}
        assert names == {*kept, ".lock"}
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="can't write there"), locked(tmp_path / "file"):
        pass


def test_a_log_forgets_what_was_taken_twice_and_half_lines(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path)
    log.every = 0
    for step in (1, 2, 3):
        log.validation(step, 0.0, [])
    with open(tmp_path / "log.jsonl", "ab") as file:
        file.write(b'{"kind": "val')
    log = TrainingLog(tmp_path)
    log.resumed(2, 0.0)
    log.validation(3, 1.0, [])
    records = read_log(tmp_path / "log.jsonl")
    assert [(r["kind"], r["step"]) for r in records] == [
        ("validation", 1),
        ("validation", 2),
        ("resumed", 2),
        ("validation", 3),
    ]
    assert records[-1]["seconds"] == 1


def killed_at_random(plan: Recipe, folder: Path, kills: int) -> Path:
    """Run the program, kill it ``kills`` times, let it end; returns the run's folder."""
    (folder / "recipe.yaml").write_text(json.dumps(to_mapping(plan)))
    out = folder / "run"
    command = [
        sys.executable, "-m", "toolkit", "train", str(folder / "recipe.yaml"), "--out", str(out),
    ]  # fmt: skip
    rng = random.Random(0)
    for _ in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        while "held out" not in process.stdout.readline():
            assert process.poll() is None
        time.sleep(rng.uniform(0.0, 0.6))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_ends_as_one_that_is_not(
    photos: Path, tmp_path: Path, kills: int
) -> None:
    schedule = {"steps": 40 * kills, "phases": [{"until": 1, "crop": 64, "batch": 1}]}
    plan = recipe(photos, options=TINY, schedule=schedule, checkpoint_minutes=1e-4)
    whole = trainer(plan, tmp_path / "whole")
    whole.run()
    export(whole)
    out = killed_at_random(plan, tmp_path, kills)
    assert_same_state(tmp_path / "whole", out)
    weights = [load_file(folder / "pln.safetensors") for folder in (tmp_path / "whole", out)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    assert not [path for path in out.iterdir() if path.name.startswith(".checkpoint")]
