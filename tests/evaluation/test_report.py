"""Reports and exports, the page also in a real browser where there is one."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import evaluation_plugin
import msgspec
import numpy as np
import pytest
from PIL import Image

from toolkit.errors import InputError, UnknownName
from toolkit.plugin.loader import load_plugins
from toolkit_evaluation import EvaluationSettings, evaluate
from toolkit_evaluation.report.page import ReportSettings, write_report
from toolkit_evaluation.results.reference import read_reference
from toolkit_evaluation.results.table import Table
from toolkit_evaluation.run.recorded import read_run
from toolkit_evaluation.run.store import FolderStore
from toolkit_evaluation.thesis.figures import read_thesis, thesis_curve, thesis_figures
from toolkit_evaluation.thesis.times import coding_times, write_coding_times

REGISTRY = """
presets:
  grid: {codec: grid, sweep: [8, 16, 32, 64]}
  fine: {codec: grid, options: {level: 9}, sweep: [4, 12, 24, 48]}
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A run over three images, one of which fails, files kept."""
    workspace = tmp_path_factory.mktemp("report")
    (workspace / "registry.yaml").write_text(REGISTRY)
    (workspace / "images").mkdir()
    waves = np.add.outer(np.sin(np.arange(180) / 9), np.cos(np.arange(200) / 7))
    for number in range(3):
        noise = np.random.default_rng(number).normal(0, 12, (180, 200, 3))
        pixels = np.clip(128 + 50 * waves[:, :, None] + noise, 0, 255).astype(np.uint8)
        pixels.flat[0] = evaluation_plugin.RAISES if number == 2 else 100
        Image.fromarray(pixels).save(workspace / "images" / f"im<{number}>.png")
    plugins = load_plugins([Path(evaluation_plugin.__file__)])
    evaluate(
        ["grid", "fine"], workspace / "images",
        EvaluationSettings(out=workspace / "results", keep_files=workspace / "kept"),
        plugins=plugins, registry=workspace / "registry.yaml", notice=lambda text: None,
    )  # fmt: skip
    return workspace / "results"


@pytest.fixture(scope="module")
def page(results, tmp_path_factory):
    settings = ReportSettings(anchor="grid", title="A <report>")
    return write_report(read_run(results), tmp_path_factory.mktemp("page"), settings)


def test_the_page_is_whole_and_alone(page):
    text = page.read_text()
    assert "A &lt;report&gt;" in text
    assert "RuntimeError: this image is cursed" in text
    assert not re.search(r"(src|href)=.?https?:", text)
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    assert [p["name"] for p in data["pictures"]] == ["im<0>", "im<1>"]
    names = [view["name"] for view in data["pictures"][0]["views"]]
    assert names[0] == "original"
    assert {name.split()[0] for name in names[1:]} == {"grid", "fine"}
    assert {curve["image"] for curve in data["curves"]} == {"", "im<0>", "im<1>"}
    assert len(text) < 300_000
    for picture in data["pictures"]:
        for view in picture["views"]:
            with Image.open(page.parent / view["source"]) as shown:
                assert shown.size == (picture["width"], picture["height"])


def test_every_command_is_told(results, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**run, "command": ["toolkit", "eval", "a b"]}))
    store = FolderStore(folder)
    for words in (["toolkit", "eval", "c"], ["toolkit", "eval", "a b"], ["toolkit", "eval", "d"]):
        for _ in range(2):  # when a run begins, and when it ends
            store.write_run({**run, "command": words})
    store.close()
    page = write_report(read_run(folder), tmp_path / "report").read_text()
    told = re.search(r"<pre>(toolkit eval.*?)</pre>", page, re.S)[1]
    assert told.split("\n") == ["toolkit eval c", "toolkit eval &#x27;a b&#x27;", "toolkit eval d"]


def test_exports(page, results):
    table = read_run(results).table
    with (page.parent / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(table.rows) == 24
    assert rows[0]["parts.low"]
    assert float(rows[0]["psnr"]) == table.rows[0].psnr
    curve = read_reference(page.parent / "compressai" / "grid.json")
    assert curve.name == "grid"
    means = [mean for mean in table.means if mean.codec == "grid"]
    assert [p.bpp for p in curve.points] == sorted(mean.value("bpp") for mean in means)


def test_codec_compare_batches(page, results):
    batches = json.loads((page.parent / "codec-compare" / "batches.json").read_bytes())
    assert batches == [["codec-compare/grid.json"], ["codec-compare/fine.json"]]
    batch = json.loads((page.parent / batches[1][0]).read_bytes())
    assert len(batch["constant_descriptions"]) == len(batch["constant_values"])
    names = [next(iter(field)) for field in batch["field_descriptions"]]
    good = [row for row in read_run(results).table.rows if row.codec == "fine"]
    good = [row for row in good if row.ok]
    assert len(batch["field_values"]) == len(good) == 8
    first = dict(zip(names, batch["field_values"][0], strict=True))
    assert first["encoded_size"] == good[0].bytes
    assert first["msssim"] == good[0].ms_ssim
    assert first["quality"] == 4


def test_compressai_draws_our_tables(page, tmp_path):
    spec = importlib.util.find_spec("compressai")
    if spec is None or spec.origin is None:
        pytest.skip("no CompressAI here")
    # the file alone: its package imports far more than the plot needs
    tool = runpy.run_path(str(Path(spec.origin).parent / "utils" / "plot" / "__main__.py"))
    files = sorted(map(str, (page.parent / "compressai").glob("*.json")))
    tool["main"](["-f", *files, "-m", "ms-ssim", "-o", str(tmp_path / "plot.png")])
    assert Image.open(tmp_path / "plot.png").size[0] > 1000


def test_the_newest_version_of_a_codec_counts(results, tmp_path):
    shutil.copytree(results, tmp_path / "run")
    lines = (tmp_path / "run" / "rows.jsonl").read_text().splitlines()
    newer = json.loads(lines[0]) | {"key": "new", "codec_identity": "new", "bpp": 99.0}
    with (tmp_path / "run" / "rows.jsonl").open("a") as file:
        file.write(json.dumps(newer) + "\n")
    notices = []
    recorded = read_run(tmp_path / "run", notices.append)
    assert [r.bpp for r in recorded.table.rows if r.codec == newer["codec"]] == [99.0]
    assert "12 rows of earlier options or weights are left out" in notices


def test_what_is_no_run(results, tmp_path):
    with pytest.raises(InputError, match="no results there"):
        read_run(tmp_path)
    with pytest.raises(UnknownName, match="nearest: grid"):
        write_report(read_run(results), tmp_path, ReportSettings(anchor="grit"))
    assert not list(tmp_path.iterdir())


def test_the_command(results, tmp_path):
    line = ["report", str(results), "--out", str(tmp_path / "out"), "--pictures", "0"]
    code = "from toolkit.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *line], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_file()


CURVES = "image,method,beta,bpp,psnr_dB,ms_ssim_dB,ms_ssim\n"
NOTEBOOK = "model,bpp,second_level_bpp,encode_s,decode_s\nladder,0.7,0.09,145,45\n"


def test_thesis_figures(results, tmp_path):
    lines = [
        f"im<{image}>,{method},{beta},{rate},{30 + image},{12 + image},"
        for image in (0, 1)
        for method in ("pln_actual", "jpeg")
        for beta, rate in (("", 0.3), ("0.1", 0.2 + image), ("1", 0.8))
        if (method == "jpeg") == (beta == "")
    ]
    (tmp_path / "thesis_kodak_digitised.csv").write_text(CURVES + "\n".join(lines))
    (tmp_path / "thesis_kodim01_notebook.csv").write_text(NOTEBOOK)
    thesis = read_thesis(tmp_path)
    assert thesis_curve(thesis, "pln_actual", "psnr", ["im<1>"]) == [(1.2, 31), (0.8, 31)]
    assert thesis_curve(thesis, "pln_actual", "psnr", ["im<0>", "im<1>"]) == [
        (pytest.approx(0.7), 30.5),
        (pytest.approx(0.8), 30.5),
    ]
    assert thesis_curve(thesis, "jpeg", "psnr", ["im<0>", "im<1>"]) == []  # nothing to match by
    paths = thesis_figures(read_run(results).table, thesis, tmp_path / "out")
    names = ["4.1-im<0>", "4.1-im<1>", "4.1-mean", "4.2", "4.9"]
    assert [path.name for path in paths] == [f"figure-{name}.png" for name in names]
    text = (tmp_path / "out" / "figure-4.1-mean.svg").read_text()
    assert "thesis: pln" in text
    assert "grid, theoretical" in text
    (tmp_path / "thesis_kodim01_notebook.csv").write_text("model\nladder\n")
    with pytest.raises(InputError, match="columns model, bpp"):
        read_thesis(tmp_path)


def test_coding_times_beside_the_thesis(results, tmp_path):
    """Of the image that the thesis timed, where it was coded; else means over the images."""
    (tmp_path / "thesis_kodak_digitised.csv").write_text(CURVES + "im<0>,jpeg,,0.3,30,12,")
    (tmp_path / "thesis_kodim01_notebook.csv").write_text(NOTEBOOK)
    thesis, table = read_thesis(tmp_path), read_run(results).table
    first, *ours = coding_times(table, thesis)
    assert first["model"] == "thesis: ladder"
    assert (first["bpp"], first["encode_s"], first["coder_encode_s"]) == (0.7, 145, None)
    assert [record["images"] for record in ours] == ["mean of 2"] * 8
    assert [record["point"] for record in ours] == ["64", "32", "16", "8", "48", "24", "12", "4"]
    renamed = [replace_image(row, "im<0>", "kodim01") for row in table.rows]
    _, *ours = coding_times(Table(renamed), thesis)
    assert [record["images"] for record in ours] == ["kodim01"] * 8
    timed = {row.bpp: row.encode_s for row in renamed if row.image == "kodim01"}
    assert all(record["encode_s"] == timed[record["bpp"]] for record in ours)
    (path,) = write_coding_times(table, thesis, tmp_path / "out")
    lines = path.read_text().splitlines()
    assert len(lines) == 2 + 1 + 8
    assert lines[2] == "| thesis: ladder |  | kodim01 | 0.700 | 145.00 |  | 45.00 |  |"
    with path.with_suffix(".csv").open() as file:
        assert len(list(csv.DictReader(file))) == 9


def replace_image(row, old, new):
    return msgspec.structs.replace(row, image=new) if row.image == old else row


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium here")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


def ways_to_compare(view):
    """Difference, flicker, and the right picture at the rate of the left one."""
    blend = "getComputedStyle(document.querySelector('#stage .right')).mixBlendMode"
    view.select_option("#view-mode", "difference")
    assert view.evaluate(blend) == "difference"
    assert not view.is_visible("#slider")
    view.select_option("#view-mode", "flicker")
    view.wait_for_selector("#stage.flicker.off")
    view.wait_for_selector("#stage.flicker:not(.off)")
    view.select_option("#view-mode", "cut")
    assert view.is_visible("#slider")
    views = view.evaluate(
        "JSON.parse(document.getElementById('data').textContent).pictures[0].views"
    )
    view.check("#view-match")
    for number, left in enumerate(views[1:], 1):
        view.select_option("#view-left", str(number))
        right = views[int(view.input_value("#view-right"))]
        others = [one["bpp"] for one in views if one["codec"] == right["codec"]]
        nearest = min(others, key=lambda bpp: abs(np.log(bpp / left["bpp"])))
        assert right["bpp"] == nearest
    view.uncheck("#view-match")


def tables_are_sorted(view):
    """By a column's numbers, up and down; cells without one last."""
    column = view.locator("#means th button", has_text=re.compile("^bpp$"))
    for sign in (1, -1):
        column.click()
        cells = view.locator("#means tbody td:nth-child(5)").all_text_contents()
        values = [float(cell) for cell in cells if cell != "-"]
        assert len(values) >= 8
        assert values == sorted(values, reverse=sign < 0)
    assert view.locator("#means th[aria-sort=descending]").count() == 1


@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(browser, page, width, scheme):
    view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    trouble, requests = [], []
    view.on("console", lambda message: trouble.append(message.text))
    view.on("pageerror", lambda error: trouble.append(str(error)))
    view.on("request", lambda request: requests.append(request.url))
    view.goto(page.as_uri())
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    assert view.locator("#plot path[stroke]").count() >= 4

    view.focus("#plot")
    view.keyboard.press("ArrowRight")
    assert re.search(r"at \d+: \d\.\d{4} bpp", view.text_content("#plot-readout"))
    dot = view.locator("#plot circle").last  # no other lies over it
    dot.hover()
    assert view.text_content(".tip") == view.text_content("#plot-readout")
    tip = view.locator(".tip").bounding_box()
    assert abs(tip["y"] + tip["height"] - dot.bounding_box()["y"]) < 20
    view.select_option("#plot-image", "im<1>")
    view.click("#legend button >> nth=0")
    assert view.locator("#plot path[stroke]").count() == 3

    clip = "getComputedStyle(document.querySelector('#stage .right')).clipPath"
    before = view.evaluate(clip)
    view.focus("#stage")
    view.keyboard.press("ArrowRight")
    moved = view.evaluate(clip)
    assert moved != before
    view.focus("#slider")
    view.keyboard.press("ArrowRight")
    assert view.evaluate(clip) != moved
    view.click("#zoom-in")
    assert view.text_content("#zoom-value") == "2\u00d7"
    ways_to_compare(view)
    tables_are_sorted(view)
    loaded = "[...document.querySelectorAll('#stage img')].every(i => i.naturalWidth === 200)"
    view.wait_for_function(loaded)
    assert trouble == []
    assert all(url.startswith(("file:", "data:")) for url in requests)
    view.close()
