"""docs/plugins/: its commands run, its code runs, its tables are complete."""

from __future__ import annotations

import inspect
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

import toolkit.testing.another_process
import toolkit.testing.codec_subject
import toolkit.testing.codecs
import toolkit.testing.ladders
import toolkit.testing.metrics
import toolkit.testing.models
import toolkit.testing.training
from toolkit.cli import main
from toolkit.codec.base import Codec
from toolkit.codec.container_codec import ContainerCodec
from toolkit.entropy_model.base import LadderModel
from toolkit.plugin.specs import MetricSpec
from toolkit.sampling.contract import Sampler
from toolkit.testing.pictures import picture

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "plugins"
PAGES = sorted(path.name for path in FOLDER.glob("*.md"))
QUICK = ("README.md", "metric.md")
"""Pages whose commands take seconds; other tests run the others' code."""
SHORTER = {"train": ["--set", "schedule.steps=12", "--set", "options.width=8"]}


def text(page: str) -> str:
    return (FOLDER / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text(page), re.DOTALL)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout's examples, photographs, and nothing else."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "photos").mkdir()
    for number, name in enumerate("abc"):
        Image.fromarray(picture(96, 128, seed=number)).save(tmp_path / "photos" / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_REGISTRY", str(ROOT / "registry.yaml"))
    return tmp_path


def status() -> int:
    """Of a call of the program."""
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_there_is_a_page_for_every_kind() -> None:
    assert PAGES == ["README.md", "codec.md", "entropy-model.md", "metric.md", "sampler.md"]


@pytest.mark.parametrize(
    "page", [p if p in QUICK else pytest.param(p, marks=pytest.mark.slow) for p in PAGES]
)
def test_commands_run(page: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    assert lines
    for line in lines:
        program, *words = shlex.split(line)
        if program == "python":
            done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            continue
        assert program == "toolkit", line
        monkeypatch.setattr(sys, "argv", ["toolkit", *words, *SHORTER.get(words[0], [])])
        assert status() == 0, line


@pytest.mark.parametrize("page", PAGES)
def test_code_runs(page: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = blocks(page, "python")
    assert sources
    for source in sources:
        exec(source, {"__name__": "example"})
    assert capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text(page)):
        assert (FOLDER / target).exists(), target


@pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md"])
def test_the_example_is_named_not_pasted(page: str) -> None:
    name = page.removesuffix(".md").replace("-", "_")
    assert f"(../../examples/{name}.py)" in text(page)
    assert f"`toolkit new {page.removesuffix('.md')}`" in text("README.md")
    lines = {line for line in (ROOT / "examples" / f"{name}.py").read_text().splitlines() if line}
    pasted = [x for b in blocks(page, "python") for x in b.splitlines() if x in lines]
    assert len(pasted) <= 2, pasted


def table(page: str, heading: str) -> set[str]:
    """Names in the first column of the table whose head begins so."""
    rows = text(page).split(f"| {heading} |", 1)[1].split("\n\n")[0].splitlines()[2:]
    cells = [row.split("|")[1] for row in rows]
    return {name.split("(")[0] for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


@pytest.mark.parametrize(
    ("page", "heading", "base"),
    [
        ("sampler.md", "member", Sampler),
        ("codec.md", "member of `ContainerCodec`", ContainerCodec),
        ("codec.md", "member of `Codec`", Codec),
        ("entropy-model.md", "member", LadderModel),
    ],
)
def test_the_table_has_all_that_must_be_implemented(page: str, heading: str, base: type) -> None:
    names = table(page, heading)
    assert {"options_class", *base.__abstractmethods__} <= names  # type: ignore[attr-defined]
    for name in names:
        assert hasattr(base, name), name


def test_the_metric_table_has_the_fields_of_its_descriptor() -> None:
    assert {"higher_is_better", "unit"} <= set(MetricSpec.__annotations__)
    assert table("metric.md", "part") == {"higher_is_better", "unit", "needs", "prepare"}


@pytest.mark.parametrize(
    ("page", "modules"),
    [
        (
            "codec.md",
            [
                toolkit.testing.codecs,
                toolkit.testing.codec_subject,
                toolkit.testing.another_process,
            ],
        ),
        ("metric.md", [toolkit.testing.metrics]),
        (
            "entropy-model.md",
            [toolkit.testing.models, toolkit.testing.ladders, toolkit.testing.training],
        ),
    ],
)
def test_every_check_of_the_kit_is_in_its_table(page: str, modules: list[ModuleType]) -> None:
    rows = text(page).split("| check |", 1)[1].split("\n\n")[0]
    column = ",".join(row.split("|")[1] for row in rows.splitlines()[2:])
    listed = {word.strip().strip("`") for word in column.split(",")}
    raised = {
        name
        for module in modules
        for name in re.findall(r'ConformanceError\(\s*"([a-z_ ]+)"', inspect.getsource(module))
    }
    assert raised
    assert raised <= listed
