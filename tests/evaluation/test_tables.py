"""Tables in a terminal of 80 columns and in notebooks: every column, no digit lost."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from toolkit_evaluation import EvaluationSettings, Table, evaluate
from toolkit_evaluation.results.columns import columns_of
from toolkit_evaluation.results.terminal import print_table


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
    print_table(Console(file=file, width=width), table, table.bd_rates())
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
    assert f"<td>{table.means[0].value('psnr'):.2f}</td>" in html


def test_a_plot_needs_no_file(table: Table, tmp_path: Path) -> None:
    assert table.plot().axes
    table.plot(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_pandas(table: Table) -> None:
    pytest.importorskip("pandas")
    frame, means = table.to_pandas(), table.to_pandas(means=True)
    assert list(frame["codec"]) == [row.codec for row in table.rows]
    assert list(means["bpp"]) == [mean.value("bpp") for mean in table.means]
