"""``toolkit bench sizes``: each command in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.cli import main
from toolkit_evaluation.run import sizes as bench


def sizes(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "toolkit", "bench", "sizes", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)


def test_time_and_memory_of_both_commands(tmp_path: Path) -> None:
    done = sizes(tmp_path, "--codec", "jpeg", "--megapixels", "0.01,0.04", "--json", "-")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [(row["command"], row["megapixels"]) for row in rows] == [
        ("encode", 0.01), ("decode", 0.01), ("encode", 0.04), ("decode", 0.04),
    ]  # fmt: skip
    for row in rows:
        assert row["error"] is None
        assert row["seconds"] > 0
        assert row["bytes"] > 100
        if sys.platform == "linux":
            assert 10 < row["peak_mib"] < 1000
    assert list(tmp_path.iterdir()) == []


def test_what_fails_is_a_row(tmp_path: Path) -> None:
    done = sizes(tmp_path, "--codec", "jpeg", "--megapixels", "0.04", "--max-pixels", "100")
    assert done.returncode == 5
    assert "the limit is 100" in done.stdout


@pytest.mark.parametrize("text", ["", "0", "-1", "many", "1,,2", "2000", "nan"])
def test_sizes_that_are_none(text: str, tmp_path: Path) -> None:
    done = sizes(tmp_path, "--codec", "jpeg", "--megapixels", text)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_what_was_measured_before_an_interrupt_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = bench._measured

    def interrupted(preset: str, size: float, arguments: list[str], threads: int) -> bench.SizeRow:
        if arguments[0] == "decode":
            raise KeyboardInterrupt
        return measured(preset, size, arguments, threads)

    monkeypatch.setattr(bench, "_measured", interrupted)
    monkeypatch.setattr(
        sys, "argv", ["toolkit", "bench", "sizes", "--codec", "jpeg", "--megapixels", "0.01"]
    )
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 130
    assert "encode" in capsys.readouterr().out
