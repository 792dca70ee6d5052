"""toolkit new: packages that pass their own test and load by their entry point."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from toolkit.cli import main

ROOT = Path(__file__).parents[2]
MODULES = {
    "sampler": "sampler.py",
    "codec": "codec.py",
    "metric": "metric.py",
    "entropy-model": "entropy_model.py",
}
QUICK = "metric"
"""The kind whose kit is the quickest; examples/ has all of them tested in place."""


def new(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["toolkit", "new", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def there(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python, run in a folder."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "plugins", ROOT / "evaluation")))
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "kind", [k if k == QUICK else pytest.param(k, marks=pytest.mark.slow) for k in MODULES]
)
def test_a_new_package_passes_its_own_test(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    assert new(monkeypatch, kind, "my-own", "--out", folder) == 0
    module = folder / "toolkit_my_own"
    assert (module / MODULES[kind]).is_file()
    assert "my-own" in (folder / "README.md").read_text()
    done = there(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.mark.parametrize("kind", MODULES)
def test_its_entry_point_is_a_plugin_whose_listing_loads_no_network(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    assert new(monkeypatch, kind, "my-own", "--out", folder) == 0
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    points = project["project"]["entry-points"]["toolkit.plugins"]
    assert points == {"my-own": "toolkit_my_own"}
    assert project["tool"]["setuptools"]["packages"] == ["toolkit_my_own"]
    code = (
        "import sys, toolkit_my_own\n"
        "from toolkit.plugin.loader import Plugins\n"
        "plugins = Plugins()\n"
        "plugins.add('my-own', 'test', lambda: toolkit_my_own)\n"
        "assert not plugins.problems, plugins.problems\n"
        f"assert plugins.records[0].provides == ['{kind.replace('-', ' ')} my-own']\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = there(folder, "-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param("sampler", "sampler", marks=pytest.mark.slow),
        pytest.param("codec", "container-codec", marks=pytest.mark.slow),
        ("metric", "class"),
        ("metric", "math"),
    ],
)
def test_names_that_the_code_has_already(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    assert new(monkeypatch, kind, name, "--out", folder) == 0
    done = there(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", MODULES)
def test_lines_stay_short_whatever_the_name(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    assert new(monkeypatch, kind, "a-plugin-with-rather-a-long-name", "--out", folder) == 0
    for path in folder.rglob("*.py"):
        source = path.read_text()
        ast.parse(source)
        assert max(map(len, source.splitlines())) <= 100, path


def test_the_folder_is_named_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert new(monkeypatch, "metric", "worst") == 0
    assert (tmp_path / "toolkit-worst" / "toolkit_worst" / "metric.py").is_file()


def test_nothing_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, full, file = tmp_path / "empty", tmp_path / "full", tmp_path / "file"
    empty.mkdir()
    full.mkdir()
    (full / "notes").write_text("mine")
    file.write_text("mine")
    assert new(monkeypatch, "metric", "worst", "--out", empty) == 0
    for folder in (empty, full, file):
        assert new(monkeypatch, "metric", "worst", "--out", folder) == 2
        assert "nothing is overwritten" in capsys.readouterr().err
    assert sorted(path.name for path in full.iterdir()) == ["notes"]


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("sampler", "trellis", "'trellis' is provided by samplers (built-in) already"),
        ("entropy-model", "jpeg", "'jpeg' is provided by classical (built-in) already"),
        ("sampler", "plugins", "there is a module toolkit_plugins already"),
        ("sampler", "My Own", "a name is lower-case letters, digits and single hyphens"),
        ("sampler", "../mine", "a name is lower-case"),
    ],
)
def test_names_that_cannot_be_had(
    kind: str,
    name: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert new(monkeypatch, kind, name, "--out", tmp_path / "mine") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()
