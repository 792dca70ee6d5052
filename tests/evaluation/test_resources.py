"""Memory and disk that give out during an evaluation: rows that say so, and are never kept."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import evaluation_plugin
import pytest
from evaluation_workspace import add_image, encoded, run, workspace

from toolkit.errors import InputError, ResourceError, gave_out
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


def test_a_codec_that_takes_too_long_to_load_is_not_said_to_be_slow(workspace, monkeypatch):
    """Loading has a limit of its own, so that of a row isn't named."""
    monkeypatch.setattr("toolkit_evaluation.run.pool.OPENING", 0.0)
    table = run(workspace, images="images/im0.png", points=[8], timeout=100)
    assert [row.error for row in table.rows] == ["loading the codec took longer than 0 s"]
