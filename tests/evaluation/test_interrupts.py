"""Ctrl-C and kill -9 at random points of a run with real codecs: the rows are an undisturbed run's.

A terminal's Ctrl-C reaches every process of the run; kill -9 reaches the one that was meant.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from evaluation_workspace import add_image, timeless

POINTS = ("10", "50", "90")


def add_images(folder, count):
    """Pictures under 161 pixels a side: no MS-SSIM, whose libraries take seconds to load."""
    (folder / "images").mkdir()
    for number in range(count):
        add_image(folder / "images" / f"im{number:02}.png", number, shape=(150, 230, 3))


def command(out, workers):
    code = "from toolkit.cli import main; main()"
    points = [word for point in POINTS for word in ("--point", point)]
    line = ["eval", "images", "--codec", "jpeg", "--codec", "webp", *points, "--no-plot"]
    files = ["--out", out, "--json", f"{out}.json", "--workers", str(workers)]
    return [sys.executable, "-c", code, *line, *files]


def stored(folder):
    path = folder / "results" / "rows.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def disturb(folder, way, workers, random):
    """Start the run and end it at a random point; whether it was still running."""
    process = subprocess.Popen(
        command("results", workers),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # whoever runs the tests in the background has them ignore interrupts, and children too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    enough = stored(folder) + random.integers(1, 4)
    while stored(folder) < enough and process.poll() is None:
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.03))
    if way == signal.SIGINT:
        os.killpg(process.pid, way)
    else:
        process.send_signal(way)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in ({0, 130} if way == signal.SIGINT else {0, -way})
    assert "Traceback" not in errors
    assert ("interrupted" in errors) == (process.returncode == 130)
    return process.returncode != 0


def check(folder, way, workers, times):
    add_images(folder, 3 * times + 4)
    total = (3 * times + 4) * 2 * len(POINTS)
    random = np.random.default_rng(workers)
    done, lines = 0, 0
    while done < times:
        assert disturb(folder, way, workers, random), "over before it could be disturbed"
        assert stored(folder) > lines  # what was stored stays, and there is progress
        lines, done = stored(folder), done + 1
    assert lines < total
    for out in ("results", "fresh"):
        ended = subprocess.run(
            command(out, workers), cwd=folder, capture_output=True, text=True, timeout=120
        )
        assert ended.returncode == 0, ended.stderr
    disturbed, fresh = (
        json.loads((folder / f"{out}.json").read_bytes())["rows"] for out in ("results", "fresh")
    )
    assert timeless(disturbed) == timeless(fresh)
    assert len(fresh) == total
    kept = [json.loads(line) for line in (folder / "results" / "rows.jsonl").open()]
    assert len(kept) == len({row["key"] for row in kept}) == total  # nothing twice
    record = json.loads((folder / "results" / "run.json").read_bytes())
    assert record["computed"] <= total - lines  # the last run did only what was missing


@pytest.mark.parametrize(("way", "workers"), [(signal.SIGINT, 1), (signal.SIGKILL, 2)])
def test_three_random_points(tmp_path, way, workers):
    check(tmp_path, way, workers, 3)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGKILL])
def test_twenty_random_points(tmp_path, way, workers):
    check(tmp_path, way, workers, 20)
