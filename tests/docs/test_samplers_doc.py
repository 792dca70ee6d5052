"""What docs/samplers.md says works."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from toolkit.cli import main
from toolkit.plugin.loader import Plugins, load_plugins
from toolkit.sampling.blocks.sampler import BlockSampler
from toolkit.testing import check_sampler

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "samplers.md").read_text(encoding="utf-8")


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    (source,) = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    assert source.count("\n") <= 60
    path = tmp_path / "twostep.py"
    path.write_text(source)
    return path


@pytest.fixture
def plugins(plugin: Path) -> Plugins:
    return load_plugins([plugin])


def test_the_example_passes_the_kit_and_codes_well(plugins: Plugins) -> None:
    report = check_sampler("twostep", {"bits": 8}, plugins=plugins, targets=40, damaged=40)
    assert report.figure_of_merit is not None
    one_step = check_sampler("importance", {"bits": 8}, targets=2, damaged=2)
    assert one_step.figure_of_merit is not None
    assert report.figure_of_merit.j_percent < one_step.figure_of_merit.j_percent


def test_the_example_works_as_a_plugin_of_the_command(
    plugin: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = re.findall(r"^toolkit (bench samplers .*--synthetic.*)$", DOC, re.MULTILINE)
    monkeypatch.chdir(plugin.parent)
    short = ["--point", "0.3"]
    monkeypatch.setattr(sys, "argv", ["toolkit", *line.split(), *short])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    assert "twostep" in capsys.readouterr().out


def test_names_in_the_text_exist() -> None:
    for name in ("budget", "choose", "widths", "draw", "write_indices", "read_indices"):
        assert f"`{name}" in DOC
        assert hasattr(BlockSampler, name)
    for path in re.findall(r"`((?:toolkit|plugins)/[a-z_/]+\.py)`", DOC):
        assert (ROOT / path).exists(), path


def test_the_table_lists_every_sampler() -> None:
    table = DOC[DOC.index("## Those that are here") :]
    listed = set(re.findall(r"^\| `([a-z]+)` \|", table, re.MULTILINE))
    assert listed == set(load_plugins().samplers)
