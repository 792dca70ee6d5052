"""Broken plugins as installed distributions: each is named once, and all else works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from faulty_plugins import FAULTY

BEYOND = {
    "no such module": (None, "No module named 'faulty_absent'"),
    "no such object": ("there = 1", "has no attribute 'plugin'"),
}
KINDS = {**FAULTY, **BEYOND}


def install(folder: Path, number: int, kind: str) -> str:
    """A distribution with an entry point, as pip leaves it; returns its name."""
    source, _ = KINDS[kind]
    name = f"faulty-{number}"
    module = "faulty_absent" if source is None else f"faulty_{number}"
    if source is not None:
        (folder / f"{module}.py").write_text(source)
    info = folder / f"faulty_{number}-1.{number}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.{number}\n")
    target = f"{module}:plugin" if kind == "no such object" else module
    (info / "entry_points.txt").write_text(f"[toolkit.plugins]\nbroken = {target}\n")
    return f"{name} 1.{number}"


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    places = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "toolkit", *arguments],
        env={**os.environ, "PYTHONPATH": places}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_there_are_fourteen_kinds_at_least() -> None:
    assert len(KINDS) >= 14
    assert any("SystemExit" in message for _, message in KINDS.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_distribution_is_named_and_left_out(kind: str, tmp_path: Path) -> None:
    origin = install(tmp_path, 1, kind)
    done = call(tmp_path, "presets")
    assert done.returncode == 0
    assert "pln-fast" in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"toolkit: plugin 'broken' ({origin}): ")
    assert KINDS[kind][1] in line
    assert line.endswith("; left out")


def test_all_of_them_at_once_and_everything_else_works(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    origins = [install(tmp_path, number, kind) for number, kind in enumerate(KINDS)]
    listed = call(tmp_path, "plugins", "--json")
    records = {r["origin"]: r for r in json.loads(listed.stdout) if r["origin"] in origins}
    assert set(records) == set(origins)
    for origin, kind in zip(origins, KINDS, strict=True):
        assert KINDS[kind][1] in records[origin]["error"]
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    coded, back = str(tmp_path / "a.qf"), str(tmp_path / "b.png")
    done = call(tmp_path, "encode", str(tmp_path / "a.png"), coded, "--codec", "pln-fast")
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == len(KINDS)
    assert call(tmp_path, "decode", coded, back).returncode == 0
    assert np.asarray(Image.open(back)).shape == pixels.shape


@pytest.mark.parametrize("fault", ["raise SystemExit(9)", "raise ValueError('no luck')", "def f(:"])
def test_a_part_whose_module_cannot_be_imported_is_one_line(fault: str, tmp_path: Path) -> None:
    """Its descriptor is fine: only who uses the part hears of it."""
    head = "from toolkit import hookimpl\nfrom toolkit.plugin.specs import CodecSpec\n"
    hook = "@hookimpl\ndef toolkit_codecs():\n    yield CodecSpec('bad', 'x', 'bad_part:Codec')\n"
    (tmp_path / "bad_part.py").write_text(fault)
    (tmp_path / "good.py").write_text(head + hook)
    (tmp_path / "a.png").write_bytes(b"")
    done = call(
        tmp_path, "encode", str(tmp_path / "a.png"), "--codec", "bad",
        "--plugin", str(tmp_path / "good.py"),
    )  # fmt: skip
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert line.startswith("toolkit: 'bad' can't be loaded: ")
