"""``kill -9`` of encode, decode and report at random times: nothing half-written, a rerun equal.

Kills of eval, of training and of batches are in tests/evaluation/test_processes.py,
tests/training/test_folder.py and tests/cli/test_batch.py.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from evaluation_workspace import run, workspace
from PIL import Image

pytestmark = pytest.mark.slow
__all__ = ["workspace"]  # a fixture


def killed_runs(arguments: list[str], folder: Path, count: int, seed: int) -> int:
    """Start the command ``count`` times and kill each at a random time within how long it takes;
    returns how many were killed before they ended."""
    command = [sys.executable, "-m", "toolkit", *arguments]
    start = time.monotonic()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    whole, rng, killed = time.monotonic() - start, random.Random(seed), 0
    for _ in range(count):
        process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(whole * rng.uniform(0.5, 1.1))
        killed += process.poll() is None
        process.kill()
        process.wait()
    return killed


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    rows, columns = np.mgrid[:200, :300]
    waves = 128 + 60 * np.sin(rows / 5) + 50 * np.cos(columns / 7)
    Image.fromarray(
        np.stack([waves, waves[::-1], 255 - waves], 2).clip(0, 255).astype(np.uint8)
    ).save(tmp_path / "a.png")
    return tmp_path


def test_50_kills_of_encode_and_50_of_decode(photo: Path) -> None:
    whole: dict[str, bytes] = {}
    for name, command in {
        "a.qf": ["encode", "a.png", "a.qf", "--force"],
        "b.png": ["decode", "a.qf", "b.png", "--force"],
    }.items():
        extra = ["--codec", "pln-fast"] if command[0] == "encode" else []
        subprocess.run(
            [sys.executable, "-m", "toolkit", *command, *extra], cwd=photo, check=True,
            capture_output=True,
        )  # fmt: skip
        whole[name] = (photo / name).read_bytes()
        assert killed_runs([*command, *extra], photo, 50, 1) > 10
        assert (photo / name).read_bytes() == whole[name]
    assert {p.name for p in photo.iterdir() if not p.name.startswith(".toolkit-")} == {
        "a.png", "a.qf", "b.png",
    }  # fmt: skip


def test_20_kills_of_report(workspace: Path) -> None:
    run(workspace, points=[8])
    rows = (workspace / "results" / "rows.jsonl").read_bytes()
    assert killed_runs(["report", "results", "--out", "page"], workspace, 20, 2) > 4
    assert (workspace / "results" / "rows.jsonl").read_bytes() == rows
    done = subprocess.run(
        [sys.executable, "-m", "toolkit", "report", "results", "--out", "page"],
        cwd=workspace, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (workspace / "page" / "report.html").read_text()
    assert page.rstrip().endswith("</html>")
