"""The transcripts of the command line's page, run in a shell as a reader would."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "command-line.md"
MARK = "@@@"
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")


def transcripts(text: str) -> list[tuple[str, str]]:
    """Command and what it prints, of all blocks."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, told = part.partition("\n")
            found.append((command, told.rstrip("\n")))
    return found


def matches(wanted: str, told: str) -> bool:
    """Whether a command printed this; a line ``...`` is any lines, ``...`` in a line any words."""
    told = re.sub(r"^toolkit: \d+ of \d+ \w+\n", "", told, flags=re.MULTILINE)  # slow machines
    if not wanted:
        return not told.strip()
    lines = [
        r"(?:.*\n)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + r" *\n"
        for line in wanted.splitlines()
    ]
    return re.fullmatch("".join(lines), told.rstrip("\n") + "\n") is not None


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder with photographs, and the program on the path."""
    from skimage import data

    for folder in ("photos", "bin"):
        (tmp_path / folder).mkdir()
    for name in PHOTOS:
        picture = Image.fromarray(np.asarray(getattr(data, name)()))
        picture.resize((192, 128)).save(tmp_path / "photos" / f"{name}.png")
    program = tmp_path / "bin" / "toolkit"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m toolkit "$@"\n')
    program.chmod(0o755)
    return tmp_path


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_transcripts(workspace: Path) -> None:
    wanted = transcripts(PAGE.read_text(encoding="utf-8"))
    assert len(wanted) > 30
    script = 'exec 2>&1\nPATH="$PWD/bin:$PATH"\n' + "".join(
        f"{command}\n_status=$?; printf '\\n{MARK}\\n'; (exit $_status)\n" for command, _ in wanted
    )
    done = subprocess.run(["bash", "-c", script], cwd=workspace, capture_output=True, text=True)
    told = done.stdout.split(f"\n{MARK}\n")[:-1]
    assert len(told) == len(wanted)
    wrong = [
        f"$ {command}\n{printed}\n-- instead of --\n{expected}"
        for (command, expected), printed in zip(wanted, told, strict=True)
        if not matches(expected, printed)
    ]
    assert not wrong, "\n\n".join(wrong)


def test_matching() -> None:
    assert matches("a ... c\n...\nz", "a b c\nd\ne\nz\n")
    assert matches("...\nz", "z\n")
    assert matches("", "")
    assert matches("a", "toolkit: 1 of 32 rows\na\n")
    assert not matches("", "b\n")
    assert not matches("a", "a\nb\n")
    assert not matches("a ... c", "a b\nc\n")
    assert not matches("a.c", "abc\n")
