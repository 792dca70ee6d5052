"""The notebooks of ``examples/notebooks``: small, without outputs, and every cell runs."""

from __future__ import annotations

import ast
import json
import time
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 15_000
CPU_SECONDS = 60.0


def cells(path: Path, kind: str) -> list[str]:
    found = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == kind]


class Shown:
    """What the cells of a notebook show, as a front end would ask for it."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.forms: list[str | bytes] = []

    def __call__(self, value: Any) -> None:
        self.values.append(value)
        for form in ("_repr_html_", "_repr_png_"):
            if hasattr(value, form):
                self.forms.append(getattr(value, form)())
                return
        self.forms.append(repr(value))


def run(path: Path, names: dict[str, Any], shown: Shown) -> None:
    """Run all cells of code; where one ends in an expression, its value is shown."""
    for number, text in enumerate(cells(path, "code")):
        tree = ast.parse(text)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"{path.name}, cell {number}", "exec"), names)
        if isinstance(last, ast.Expr):
            shown(eval(compile(ast.Expression(last.value), path.name, "eval"), names))


@pytest.fixture
def ran(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], Shown]:
    """The names and what was shown after a notebook ran, in an empty folder."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown, names = Shown(), {"__name__": "__main__"}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pyplot, "show", lambda: shown(pyplot.gcf().canvas.get_default_filename()))
    before = time.process_time()
    run(FOLDER / f"{request.param}.ipynb", names, shown)
    assert time.process_time() - before < CPU_SECONDS
    assert list(tmp_path.iterdir()) == []
    pyplot.close("all")
    return names, shown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_are_small_and_have_no_outputs(path: Path) -> None:
    assert path.stat().st_size < LARGEST
    content = json.loads(path.read_text())
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in content["cells"]]
    assert len(set(ids)) == len(ids)
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_there_are_two() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["code-a-picture", "code-any-gaussians"]


@pytest.mark.parametrize("ran", ["code-a-picture"], indirect=True)
def test_a_picture(ran: tuple[dict[str, Any], Shown]) -> None:
    names, shown = ran
    assert names["psnr"](names["decoded"].pixels, names["original"]) > 29
    assert names["table"].codecs == ["pln-fast", "hyperprior", "jpeg"]
    assert not names["table"].failures
    assert any(isinstance(form, str) and "pln-fast</td>" in form for form in shown.forms)
    assert sum(isinstance(form, bytes) for form in shown.forms) == 2  # the decoded file, curves
    r, d = names["r"], names["d"]
    for z in names["samples"].values():
        away = ((z - d) / r)[names["informed"]]
        assert abs(float(np.mean(away))) < 0.05
        assert 0.9 < float(np.std(away)) < 1.4


@pytest.mark.parametrize("ran", ["code-any-gaussians"], indirect=True)
def test_any_gaussians(ran: tuple[dict[str, Any], Shown]) -> None:
    names, _ = ran
    assert float(np.mean(names["z"])) == pytest.approx(1.2, abs=0.01)
    assert float(np.std(names["z"])) == pytest.approx(0.25, rel=0.05)
    assert names["merit"].j_percent < 4
    assert names["kl_nats"]().item() < 61 * 32 / 4
    x, y = names["x"], names["y"]
    misfits = [(names["network"](x, w) - y).square().mean().sqrt().item() for w in names["sent"]]
    assert max(misfits) < 0.4
    assert len({tuple(w.tolist()) for w in names["sent"]}) == 12
