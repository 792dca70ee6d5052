"""``--max-memory``: what a codec will take is told from the picture's size, before it is taken."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import toolkit
from toolkit.errors import ResourceError
from toolkit.format.limits import limited
from toolkit_evaluation.run.sizes import measure_sizes

SIDE = 600


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    gray = 128 + 60 * np.sin(rows / 31) + 50 * np.cos(columns / 23)
    return np.repeat(gray[:, :, None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("preset", ["pln-fast", "hyperprior", "hyperprior-greedy"])
def test_nothing_begins_that_would_take_more(
    preset: str, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is what the system may keep, too; so it is only set here, not kept."""
    codec = toolkit.load(preset)
    data = codec.encode(picture, 0.3).data
    monkeypatch.setattr("toolkit.format.limits._memory_kept", lambda memory: nullcontext())
    wanted = rf"{SIDE}x{SIDE} pixels take about \d+ MiB, the limit is 200 MiB \(--max-memory\)"
    with limited(memory=200 * 2**20):
        with pytest.raises(ResourceError, match=wanted):
            codec.encode(picture, 0.3)
        with pytest.raises(ResourceError, match=wanted):
            toolkit.decode(data)
    with limited(memory=2 * 2**30):
        np.testing.assert_array_equal(toolkit.decode(data), codec.encode(picture, 0.3).show())


def test_the_command_says_so_in_one_line(picture: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(picture).save(tmp_path / "picture.png")
    done = subprocess.run(
        [sys.executable, "-m", "toolkit", "encode", "picture.png", "--codec", "pln-fast",
         "--max-memory", "400M"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == ResourceError.exit_status
    (line,) = done.stderr.splitlines()
    assert line.startswith("toolkit: picture.png: 600x600 pixels take about ")
    assert line.endswith("the limit is 400 MiB (--max-memory)")
    assert not (tmp_path / "picture.qf").exists()


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["pln-fast", "hyperprior"])
def test_estimates_are_above_what_is_taken_and_not_far(preset: str) -> None:
    codec = toolkit.load(preset)
    for row in measure_sizes([preset], [1, 6]):
        height, width = 816 if row.megapixels == 1 else 2000, 1225 if row.megapixels == 1 else 3000
        assert row.error is None
        assert row.peak_mib is not None
        told = codec.memory(height, width, encoding=row.command == "encode") / 2**20
        assert row.peak_mib <= told <= 2 * row.peak_mib
