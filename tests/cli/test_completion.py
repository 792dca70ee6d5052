"""Completion scripts, asked by the shells themselves where they are installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

import pytest

Run = Callable[..., tuple[int, str, str]]
ASKED = [
    ("toolkit enc", {"encode"}),
    ("toolkit decode --dev", {"--device"}),
    ("toolkit decode --device c", {"cpu", "cuda"}),
    ("toolkit eval --codec pln-f", {"pln-fast"}),
    ("toolkit bench sam", {"samplers"}),
    ("toolkit bench samplers --no-p", {"--no-psnr"}),
    ("toolkit samplers trel", {"trellis"}),
    ("toolkit completion f", {"fish"}),
]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes(run: Run) -> None:
    status, script, _ = run("completion", "bash")
    assert status == 0
    for line, wanted in ASKED:
        words = line.split(" ")
        ask = (
            f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
            '_toolkit_completion; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        told = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True)
        assert told.stderr == ""
        assert set(told.stdout.split()) == wanted, line


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_completes(run: Run) -> None:
    script = run("completion", "fish")[1]
    for line, wanted in ASKED:
        ask = ["fish", "-N", "-c", f"{script}\ncomplete -C '{line}'"]
        told = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
        assert {row.split("\t")[0] for row in told.splitlines()} == wanted, line


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_takes_the_script(run: Run) -> None:
    script = run("completion", "zsh")[1]
    told = subprocess.run(["zsh", "-f", "-c", script], capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (0, "")


def test_scripts_name_every_command_and_option(run: Run) -> None:
    """Those of fish: it has a line for each."""
    script = run("completion", "fish")[1]
    for command in ("eval", "encode", "train", "report"):
        listed = run(command, "-h")[1]
        options = {word for word in listed.split() if word.startswith("--") and word[2:].isalpha()}
        for option in options:
            assert f"from {command}' " in script
            assert f"-l {option[2:]} " in script, option
    assert run("completion", "tcsh")[0] == 2
