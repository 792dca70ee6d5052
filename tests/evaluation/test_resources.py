"""Memory and disk that give out during an evaluation: rows that say so, and are never kept."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import evaluation_plugin
import numpy as np
import pytest
from evaluation_workspace import add_image, encoded, run, workspace

from toolkit.errors import InputError, ResourceError, UsageError, gave_out
from toolkit.plugin.loader import load_plugins
from toolkit.plugin.presets import load_registry, open_codec
from toolkit_evaluation import EvaluationSettings
from toolkit_evaluation.run.codec_runner import Subprocesses
from toolkit_evaluation.run.recorded import read_run

__all__ = ["workspace"]  # a fixture


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ResourceError("no room"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (RuntimeError("shapes don't fit"), False),
        (InputError("no picture"), False),
    ],
)
def test_what_gives_out(error: Exception, expected: bool) -> None:
    assert gave_out(error) is expected


@pytest.mark.parametrize("settings", [{}, {"separate": True}, {"workers": 2}])
@pytest.mark.parametrize("fault", ["NO_MEMORY", "NO_ROOM", "DIES"])
def test_rows_of_what_gave_out_are_not_kept(
    workspace: Path, settings: dict[str, Any], fault: str
) -> None:
    if fault == "DIES" and not settings:
        pytest.skip("the codec takes this process with it")
    image = workspace / "images" / "im1.png"
    add_image(image, 1, first=getattr(evaluation_plugin, fault))
    table = run(workspace, points=[8], **settings)
    assert [row.status for row in table.rows] == ["ok", "error", "ok"]
    assert table.rows[1].transient
    assert table.rows[1].to_dict()["transient"] is True
    stored = read_run(workspace / "results").table.rows
    assert [row.image for row in stored] == ["im0", "im2"]
    assert "transient" not in stored[0].to_dict()
    encoded(workspace)
    add_image(image, 1)  # enough memory this time
    table = run(workspace, points=[8], **settings)
    assert [row.status for row in table.rows] == ["ok"] * 3
    assert not table.failures


def test_an_image_that_memory_does_not_suffice_for_ends_no_run(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit_evaluation.run import runner

    read = runner.as_pixels

    def reader(path: Any) -> Any:
        if Path(path).stem == "im1":
            raise ResourceError("im1: out of memory while it was read")
        return read(path)

    monkeypatch.setattr(runner, "as_pixels", reader)
    table = run(workspace, points=[8])
    assert [row.status for row in table.rows] == ["ok", "error", "ok"]
    assert [row.image for row in read_run(workspace / "results").table.rows] == ["im0", "im2"]


def test_an_image_beyond_the_limits_is_an_error_row(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.format.limits import limited

    add_image(workspace / "images" / "im1.png", 1, shape=(90, 90, 3))
    with limited(pixels=8000):
        table = run(workspace, points=[8])
    assert [row.status for row in table.rows] == ["ok", "error", "ok"]
    assert "8100 pixels, the limit is 8000" in str(table.rows[1].error)
    assert len(read_run(workspace / "results").table.rows) == 3


@pytest.mark.parametrize("how", [{}, {"separate": True}, {"workers": 2}])
def test_limits_are_settings(workspace: Path, how: dict[str, Any]) -> None:
    add_image(workspace / "images" / "im1.png", 1, shape=(90, 90, 3))
    table = run(workspace, points=[8], max_memory=100_000, **how)
    assert [row.status for row in table.rows] == ["ok", "error", "ok"]
    assert "the limit is 0.09537 MiB (--max-memory)" in str(table.rows[1].error)
    # with more memory the run goes on
    assert [row.image for row in read_run(workspace / "results").table.rows] == ["im0", "im2"]
    encoded(workspace)
    table = run(workspace, points=[8], max_memory=2**32, **how)
    assert [row.status for row in table.rows] == ["ok"] * 3
    assert encoded(workspace) <= 2  # the one image, and to warm up
    table = run(workspace, points=[16], max_pixels=8000, **how)
    assert "8100 pixels, the limit is 8000" in str(table.rows[1].error)


@pytest.mark.parametrize("method", ["encode", "decode"])
def test_processes_of_codecs_keep_to_the_limits(method: str) -> None:
    """Also where only the codec knows what it will take."""
    plugins = load_plugins()
    preset = load_registry(plugins).preset("pln-fast")
    pixels = np.zeros((300, 300, 3), np.uint8)
    data = open_codec(plugins, preset).encode(pixels, 0.3).data
    runner = Subprocesses(preset, EvaluationSettings(max_memory=400 * 2**20))
    try:
        with pytest.raises(
            ResourceError, match=r"300x300 pixels take about .* the limit is 400 MiB"
        ):
            runner.encode(pixels, 0.3, 1) if method == "encode" else runner.decode(data, 1)
    finally:
        runner.close()


def test_a_limit_below_1_is_refused() -> None:
    for name in ("max_pixels", "max_memory"):
        with pytest.raises(UsageError, match=f"{name} must be at least 1, not 0"):
            EvaluationSettings(**{name: 0})


def test_a_codec_that_takes_too_long_to_load_is_not_said_to_be_slow(workspace, monkeypatch):
    """Loading has a limit of its own, so that of a row isn't named."""
    monkeypatch.setattr("toolkit_evaluation.run.pool.OPENING", 0.0)
    table = run(workspace, images="images/im0.png", points=[8], timeout=100)
    assert [row.error for row in table.rows] == ["loading the codec took longer than 0 s"]
