"""What the README and the tutorial say works."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image

import toolkit
from toolkit.cli import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README + TUTORIAL, re.DOTALL)


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    y, x = np.mgrid[:64, :96]
    pixels = np.stack([x * 2, y * 3, 128 + 60 * np.sin(x / 9)], 2).clip(0, 255).astype(np.uint8)
    for name in ("photo.png", "photos/a.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    return tmp_path / "photo.png"


def toolkit_call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["toolkit", *arguments])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_sampler_in_one_file_is_short_and_codes(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = [block for block in blocks("python") if "class Best16" in block]
    assert source.count("\n") <= 40
    (tmp_path / "best16.py").write_text(source)
    options = ("--plugin", "best16.py", "--codec", "pln-fast", "-o", "levels.level1.sampler=best16")
    assert toolkit_call(monkeypatch, "encode", "photo.png", "photo.qf", *options) == 0
    decode = ("decode", "photo.qf", "out.png", "--plugin", "best16.py")
    assert toolkit_call(monkeypatch, *decode) == 0
    assert Image.open("out.png").size == (96, 64)
    assert toolkit_call(monkeypatch, "eval", *options, "--point", "0.5", "photos", "--no-plot") == 0


def test_the_library_example(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = [block for block in blocks("python") if "toolkit.evaluate" in block]
    evaluate = toolkit.evaluate
    shorter = {"pln": [0.5], "jpeg": [50]}
    monkeypatch.setattr(
        toolkit,
        "evaluate",
        lambda presets, images, settings: evaluate(
            presets, images, replace(settings, points=shorter)
        ),
    )
    names: dict[str, object] = {}
    exec(source, names)
    assert names["pixels"].shape == (64, 96, 3)  # type: ignore[attr-defined]
    assert {mean.codec for mean in names["table"].means} == {"pln", "jpeg"}  # type: ignore[attr-defined]


def test_files_that_the_readme_links_to_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target


def test_commands_of_readme_and_tutorial_exist(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = set(re.findall(r"^(?:\./run )?toolkit ([a-z]+)", README + TUTORIAL, re.MULTILINE))
    assert {"eval", "encode", "decode", "info", "train", "report", "bench"} <= commands
    assert toolkit_call(monkeypatch, "--help") == 0
    listed = set(re.findall(r"^  ([a-z]+) ", capsys.readouterr().out, re.MULTILINE))
    assert commands <= listed
