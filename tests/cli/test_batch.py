"""encode and decode of many files: default names, workers, failures that end nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., tuple[int, str, str]]
JPEG = ("--codec", "jpeg")
GRID = Path(__file__).parents[1] / "support" / "evaluation_plugin.py"  # notes its threads


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (40 + i, 50, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_default_names(run: Run, photos: Path) -> None:
    assert run("encode", photos / "0.png", *JPEG)[0] == 0
    assert (photos / "0.jpg").exists()
    status, _, err = run("decode", photos / "0.jpg")
    assert (status, "there already" in err) == (2, True)  # the picture it was made of
    (photos / "0.png").unlink()
    assert run("decode", photos / "0.jpg")[0] == 0
    assert Image.open(photos / "0.png").size == (50, 40)


def test_folders_patterns_and_files(run: Run, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "coded"
    (photos / "notes.txt").write_text("no picture")
    status, told, err = run("encode", photos, *JPEG, "--out", out)
    assert (status, err) == (0, "")
    assert told.splitlines()[-1].startswith("4 files, 0.0 megapixels")
    assert sorted(files(out)) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    some = tmp_path / "some"
    arguments = (f"{photos}/[01].png", photos / "3.png", photos / "3.png")
    assert run("encode", *arguments, *JPEG, "--out", some)[0] == 0
    assert sorted(files(some)) == ["0.jpg", "1.jpg", "3.jpg"]
    shown = tmp_path / "shown"
    status, told, _ = run("decode", out, "--out", shown, "--format", "bmp", "--json")
    assert (status, len(json.loads(told)["files"])) == (0, 4)
    assert Image.open(shown / "3.bmp").size == (50, 43)


def test_workers_make_the_same_files(run: Run, photos: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        command = ("encode", photos, *JPEG, "--out", tmp_path / str(workers))
        assert run(*command, "--workers", workers)[0] == 0
    assert files(tmp_path / "1") == files(tmp_path / "2")


@pytest.mark.parametrize("workers", [1, 2])
def test_threads_bound_all_that_computes(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("GRID_PROCESSES", str(tmp_path / "processes"))
    command = ("encode", photos, "--codec", "grid", "--out", tmp_path / "coded")
    assert run("--plugin", GRID, *command, "--workers", workers, "--threads", 2)[0] == 0
    notes = [line.split() for line in (tmp_path / "processes").read_text().splitlines()]
    assert [threads for _, _, threads, _ in notes] == ["2"] * 4
    assert len({process for _, process, _, _ in notes}) <= workers


@pytest.mark.parametrize("workers", [1, 2])
def test_what_fails_is_told_and_the_rest_is_done(
    run: Run, photos: Path, tmp_path: Path, workers: int
) -> None:
    (photos / "bad.png").write_text("no picture")
    out = tmp_path / "coded"
    out.mkdir()
    (out / "1.jpg").write_text("mine")
    status, told, err = run(
        "encode", photos, *JPEG, "--out", out, "--workers", workers, "--json"
    )  # fmt: skip
    assert status == 5
    assert len(json.loads(told)["files"]) == 3
    failed = {Path(row["file"]).name: row["error"] for row in json.loads(told)["failed"]}
    assert failed.keys() == {"bad.png", "1.png"}
    assert "not an image that can be read" in failed["bad.png"]
    assert "1.jpg: there already; --force replaces it" in failed["1.png"]
    assert err.count("\n") == 2
    assert (out / "1.jpg").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["{photos}/0.png", "{photos}/1.png", "{photos}/2.png"], 2, "many inputs need --out"),
        (["{photos}/0.png", "{photos}/0.bmp", "--out", "{out}"], 2, "would both be"),
        (["{photos}/*.tif", "--out", "{out}"], 3, "no files to take there"),
        (["{empty}", "--out", "{out}"], 3, "no files to take there"),
        (["{photos}", "--out", "{photos}/0.png"], 3, "can't be made"),
        (["-", "--out", "{out}"], 2, "standard input needs the name"),
        (["-"], 2, "standard input needs the name"),
    ],
)
def test_mistakes(
    run: Run, photos: Path, tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    names = {"photos": photos, "out": tmp_path / "out", "empty": tmp_path / "empty"}
    got, _, err = run("encode", *[word.format(**names) for word in arguments], *JPEG)
    assert (got, err.count("\n")) == (status, 1)
    assert message in err


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_workers_go_with_their_parent_and_leave_whole_files(
    photos: Path, tmp_path: Path, kind: signal.Signals
) -> None:
    for i in range(4, 40):
        (photos / f"{i}.png").write_bytes((photos / "0.png").read_bytes())
    out = tmp_path / "coded"
    command = [sys.executable, "-m", "toolkit", "encode", str(photos), "--codec", "avif",
               "-o", "effort=10", "--out", str(out), "--workers", "2"]  # fmt: skip
    parent = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        end = time.monotonic() + 600  # to begin takes seconds, unless others work here, too
        while not (out.exists() and len(list(out.glob("*.avif"))) > 2):
            assert time.monotonic() < end
            assert parent.poll() is None
            time.sleep(0.01)
        tree = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        workers = [Path(f"/proc/{child}") for child in tree.read_text().split()]
        assert len(workers) >= 2
        parent.send_signal(kind)
        assert parent.stderr is not None
        err = parent.stderr.read().decode()
        assert parent.wait(60) == (130 if kind == signal.SIGINT else -9)
    finally:
        parent.kill()
    assert "Traceback" not in err
    end = time.monotonic() + 5
    while any(worker.exists() for worker in workers) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(worker.exists() for worker in workers)
    for path in out.glob("*.avif"):
        assert Image.open(path).size[0] == 50
