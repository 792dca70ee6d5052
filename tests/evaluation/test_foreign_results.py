"""Results of somebody else: whatever they hold, a report of them stays in its folder."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from evaluation_workspace import add_image, run, workspace

from toolkit.errors import InputError
from toolkit_evaluation.report.page import write_report
from toolkit_evaluation.results.export import csv_of, file_name
from toolkit_evaluation.run.recorded import read_run

__all__ = ["workspace"]  # a fixture

NAMES = [
    "../../outside", "/tmp/outside", "..", ".", "", "a/b", "a\\b", "con\n", "x" * 300, "\x00", "é",
    "batches", "=cmd|' /C calc'!A0", "pln-fast", ".hidden",
]  # fmt: skip


def rows_of(workspace: Path) -> list[dict[str, Any]]:
    lines = (workspace / "results" / "rows.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def write_rows(workspace: Path, lines: list[str]) -> None:
    (workspace / "results" / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines))


def everything(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def test_names_become_names_of_files() -> None:
    found = [file_name(name) for name in NAMES]
    assert len(set(found)) == len(NAMES)
    for name in found:
        assert Path(name).name == name
        assert len(name) <= 100
        assert name not in (".", "..", "batches")
        assert not name.startswith((".", "="))
    assert file_name("pln-fast") == "pln-fast"


def test_names_do_not_lead_out_of_the_report(workspace: Path) -> None:
    run(workspace, points=[8], keep_files=workspace / "kept")
    first = rows_of(workspace)[0]
    lines = [
        json.dumps({**first, "key": str(number), "codec": name, "image": name, "file": name})
        for number, name in enumerate(NAMES)
    ]
    write_rows(workspace, lines)
    before = everything(workspace)
    recorded = read_run(workspace / "results")
    assert len(recorded.table.codecs) == len(NAMES)
    write_report(recorded, workspace / "results" / "report")
    new = everything(workspace) - before
    assert all(path.startswith(str(workspace / "results" / "report")) for path in new)
    assert len(list((workspace / "results" / "report" / "compressai").iterdir())) == len(NAMES)


def test_malformed_rows_are_left_out_with_a_notice(workspace: Path) -> None:
    run(workspace, points=[8])
    good = [json.dumps(row) for row in rows_of(workspace)]
    bad = [
        "", "[]", "null", '{"key": 1}', "[" * 100_000, '{"a":' * 50_000, "\ud800",
        json.dumps({**rows_of(workspace)[0], "bpp": "much"}),
        json.dumps({**rows_of(workspace)[0], "image": {"a": 1}}),
    ]  # fmt: skip
    data = "\n".join([*good, *bad, ""]).encode("utf-8", "surrogatepass")
    (workspace / "results" / "rows.jsonl").write_bytes(data)
    said: list[str] = []
    recorded = read_run(workspace / "results", said.append)
    assert [row.image for row in recorded.table.rows] == ["im0", "im1", "im2"]
    assert len(said) == len(bad)
    assert all("not a row; left out" in text for text in said)


@pytest.mark.parametrize(
    "change",
    [
        {"images": 3}, {"images": [{"name": 1}]}, {"images": {"a": "b"}}, {"presets": [1]},
        {"presets": [{"name": "grid"}]}, {"metrics": "psnr"}, {"metrics": [{}]}, {"anchor": ["x"]},
        {"command": 5}, {"command": [1, 2]}, {"started": None}, {"versions": []},
    ],
)  # fmt: skip
def test_records_that_no_run_writes(workspace: Path, change: dict[str, Any]) -> None:
    run(workspace, points=[8])
    path = workspace / "results" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    said: list[str] = []
    page = write_report(read_run(workspace / "results", said.append), workspace / "report")
    assert page.is_file()
    (name,) = change
    assert len(said) == 1
    assert f"'{name}' isn't as a run writes it" in said[0]


def test_links_that_lead_out_are_refused(workspace: Path) -> None:
    run(workspace, points=[8])
    victim = workspace / "victim"
    victim.write_text("precious")
    report = workspace / "results" / "report"
    report.mkdir()
    (report / "rows.csv").symlink_to(victim)
    with pytest.raises(InputError, match=r"rows\.csv: a link that leads out"):
        write_report(read_run(workspace / "results"), report)
    assert victim.read_text() == "precious"


def test_cells_that_a_spreadsheet_would_run_are_quoted() -> None:
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1", "fine", "a=b"]
    data = csv_of([{"=name": text, "number": -1.5} for text in texts])
    header, *rows = csv.reader(io.StringIO(data.decode(), newline=""))
    assert header == ["'=name", "number"]
    assert [row[0] for row in rows] == [f"'{text}" for text in texts[:7]] + texts[7:]
    assert all(row[1] == "-1.5" for row in rows)


def test_images_of_equal_pixels_both_appear(workspace: Path) -> None:
    """And their rows aren't written again by every rerun."""
    for name in ("twin", "copy"):
        add_image(workspace / "images" / f"{name}.png", 1)  # as im1
    names = {"im0", "im1", "im2", "twin", "copy"}
    for workers in (1, 2, 1):
        assert {row.image for row in run(workspace, points=[8], workers=workers).rows} == names
        assert {row.image for row in read_run(workspace / "results").table.rows} == names
        assert len(rows_of(workspace)) == len(names)


def test_of_an_image_that_was_renamed_the_new_name_counts(workspace: Path) -> None:
    run(workspace, points=[8])
    shutil.move(workspace / "images" / "im1.png", workspace / "images" / "other.png")
    run(workspace, points=[8])
    rows = read_run(workspace / "results").table.rows
    assert [row.image for row in rows] == ["im0", "im2", "other"]
