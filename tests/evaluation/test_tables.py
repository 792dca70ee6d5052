"""Tables in a terminal of 80 columns and in notebooks: every column, no digit lost."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from PIL import Image
from rich.console import Console

from toolkit import notebook
from toolkit_evaluation import EvaluationSettings, Table, evaluate
from toolkit_evaluation.results.columns import columns_of
from toolkit_evaluation.results.row import Row


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    picture = Path(__file__).parents[2] / "docs" / "rate-distortion.png"
    file = tmp_path_factory.mktemp("pictures") / "a.png"
    Image.open(picture).convert("RGB").crop((0, 0, 192, 176)).save(file)
    settings = EvaluationSettings(
        metrics=("psnr", "ms-ssim", "psnr-y", "ssim"), points={"pln-isgs": [0.4], "jpeg": [30, 60]}
    )
    return evaluate(["pln-isgs", "jpeg"], file, settings)


def printed(table: Table, width: int) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(table)
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 200])
def test_no_number_is_cut(table: Table, width: int) -> None:
    text = printed(table, width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for mean in table.means:
        for title, cell in columns_of(table.metrics).items():
            assert title.strip() in text
            assert cell(mean) in text


def test_metrics_asked_for_are_shown(table: Table) -> None:
    assert {"psnr-y", "ssim"} <= set(columns_of(table.metrics))
    (mean,) = (mean for mean in table.means if mean.codec == "pln-isgs")
    assert f"{mean.value('psnr_y'):.4f}" in printed(table, 80)


def test_notebooks_show_the_means(table: Table) -> None:
    html = table._repr_html_()
    assert len(re.findall("<tr>", html)) == 1 + len(table.means)
    assert f">{table.means[0].value('psnr'):.2f}</td>" in html
    failed = Row(key="k", image="<b>", codec="<i>", point=1, status="error", error="no & such")
    html = Table([*table.rows, failed], skipped={"bpg": "missing: <x>"})._repr_html_()
    assert "1 failed; bpg left out: missing: &lt;x&gt;" in html
    assert "<i>" not in html


def test_a_prompt_shows_what_the_program_prints(table: Table) -> None:
    assert repr(table) == printed(table, 80).rstrip()
    assert str(table) == repr(table)
    file = io.StringIO()
    Console(file=file, width=120).print(table)
    assert file.getvalue() == printed(table, 120)


def test_rows_are_a_line_each(table: Table) -> None:
    row, mean = table.rows[0], table.means[0]
    assert repr(row) == f"Row(a, pln-isgs at 0.4: {row.bpp:.4f} bpp, {row.psnr:.2f} dB)"
    assert repr(mean).startswith(f"Mean(pln-isgs at 0.4, 1 images: {row.bpp:.4f} bpp")
    failed = Row(key="k", image="b.png", codec="x", status="error", error="not an image")
    assert repr(failed) == "Row(b.png, x: not an image)"


def test_a_notebook_is_shown_the_progress(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, bar: str) -> None:
            shown.append(bar)

    def display(bar: str, display_id: bool) -> Handle:
        shown.append(bar)
        return Handle()

    Image.new("RGB", (64, 48)).save(tmp_path / "<a>.png")
    settings = EvaluationSettings(metrics=("psnr",), points=[30, 60, 90])
    assert evaluate("jpeg", tmp_path, settings).codecs == ["jpeg"]
    shell = SimpleNamespace(kernel=object())
    module = ModuleType("IPython.display")
    vars(module).update(HTML=str, display=display)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(notebook, "_SECONDS", 0.0)
    evaluate("jpeg", tmp_path, settings)
    assert [int(re.findall(r'value="(\d+)"', bar)[0]) for bar in shown] == [0, 1, 2, 3, 3]
    assert all('max="3"' in bar and "<a>" not in bar for bar in shown)
    del shown[:]
    evaluate("jpeg", tmp_path, settings, on_row=lambda row, cached: None)
    shell.kernel = None
    evaluate("jpeg", tmp_path, settings)
    assert shown == []


def test_a_plot_needs_no_file(table: Table, tmp_path: Path) -> None:
    figure = table.plot()
    assert figure.axes
    assert Image.open(io.BytesIO(figure._repr_png_())).size == (792, 360)
    table.plot(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_pandas(table: Table) -> None:
    pytest.importorskip("pandas")
    frame, means = table.to_pandas(), table.to_pandas(means=True)
    assert list(frame["codec"]) == [row.codec for row in table.rows]
    assert list(means["bpp"]) == [mean.value("bpp") for mean in table.means]
