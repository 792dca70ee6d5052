"""The harness as a whole: rows, resuming, failures, workers."""

from __future__ import annotations

import sys
from pathlib import Path

import evaluation_plugin
import numpy as np
import pytest
from evaluation_workspace import (
    PLUGIN,
    add_image,
    encoded,
    house,
    run,
    timeless,
)
from PIL import Image

from toolkit.errors import InputError, MissingError, UnknownName, UsageError
from toolkit.plugin.loader import load_plugins
from toolkit_evaluation import evaluate

__all__ = ["house"]  # a fixture

# -- rows ---------------------------------------------------------------------


def test_rows_hold_what_was_measured(house):
    table = run(house, keep_files=house / "kept")
    assert [(r["image"], r["point"]) for r in table.rows[:5]] == [
        ("im0", 8), ("im0", 16), ("im0", 32), ("im0", 64), ("im1", 8),
    ]  # fmt: skip
    for row in table.rows:
        file = Path(row["file"])
        assert file.stat().st_size == row["bytes"]
        assert row["bpp"] == 8 * row["bytes"] / (20 * 24)
        assert row["status"] == "ok"
        assert row["matches_encoder"] is True
        assert row["ms_ssim"] is None  # too small for five scales
        assert row["theoretical_bpp"] == 100 / (20 * 24)
        assert row["theoretical_psnr"] > 45
        assert row["level2_share"] == 8 / (8 + 8 * (row["bytes"] - 8))
        assert sum(row["parts"].values()) == 8 * row["bytes"]
        assert row["network_encode_s"] == pytest.approx(row["encode_s"] - 1e-6)
        shown = np.asarray(Image.open(file.with_suffix(".png")))
        original = np.asarray(Image.open(house / "images" / f"{row['image']}.png"))
        error = np.mean((shown.astype(float) - original) ** 2)
        assert row["psnr"] == pytest.approx(10 * np.log10(255**2 / error))


def test_means_are_over_the_images(house):
    table = run(house)
    assert [mean["point"] for mean in table.means] == [8, 16, 32, 64]
    for mean in table.means:
        own = [row for row in table.rows if row["point"] == mean["point"]]
        assert mean["images"] == 3
        assert mean["psnr"] == pytest.approx(np.mean([row["psnr"] for row in own]))
        assert mean["bpp"] == pytest.approx(np.mean([row["bpp"] for row in own]))
        assert mean["ms_ssim"] is None


@pytest.mark.parametrize("shape", [(1, 1, 3), (9, 5, 1), (7, 8, 4), (200, 170, 3)])
def test_modes_and_sizes(house, shape):
    add_image(house / "one.png", 7, shape=shape)
    (row,) = run(house, images="one.png", points=[16]).rows
    assert row["status"] == "ok"
    assert (row["height"], row["width"]) == shape[:2]
    assert (row["ms_ssim"] is None) == (min(shape[:2]) < 161)


def test_lossless_has_no_psnr(house):
    (row, *_) = run(house, points=[1]).rows
    assert row["psnr"] is None
    assert row["status"] == "ok"


def test_more_metrics_and_repeat(house):
    table = run(house, metrics=["psnr", "mean-shift"], points=[8], repeat=3)
    assert "ms_ssim" not in table.rows[0]
    assert table.means[0]["mean_shift"] == pytest.approx(
        np.mean([row["mean_shift"] for row in table.rows])
    )
    encoded(house)
    run(house, metrics=["psnr"], points=[8])
    assert encoded(house) == 0
    assert "ms_ssim" in run(house, points=[8]).rows[0]
    assert encoded(house) == 3 + 1


def test_a_decoder_that_disagrees_is_seen(house):
    add_image(house / "odd.png", 1, first=evaluation_plugin.DIFFERS)
    table = run(house, images="odd.png", points=[8])
    assert table.rows[0]["matches_encoder"] is False
    assert table.means[0]["mismatches"] == 1


@pytest.mark.parametrize("separate", [False, True])
def test_a_reconstruction_that_fails_is_an_error(house, separate):
    add_image(house / "images" / "im1.png", 1, first=evaluation_plugin.NO_SHOW)
    rows = {row["image"]: row for row in run(house, points=[8], separate=separate).rows}
    assert rows["im1"]["error"] == "RuntimeError: nothing to see"
    assert [rows[name]["status"] for name in ("im0", "im1", "im2")] == ["ok", "error", "ok"]


def test_target_rates_are_met_from_below(house):
    table = run(house, points=[], target_bpp=[14, 9], target_psnr=[30])
    sizes = {(r["image"], r["point"]): r["bpp"] for r in run(house, points=range(1, 129)).rows}
    dbs = {(r["image"], r["point"]): r["psnr"] for r in run(house, points=range(2, 129)).rows}
    for row in table.rows:
        if row["target"] == "psnr>=30":
            assert row["psnr"] >= 30 > dbs[row["image"], row["point"] + 1]
        else:
            most = float(row["target"].removeprefix("bpp<="))
            # sizes have small dents: a finer grid may come out smaller by some bytes
            assert most >= row["bpp"] > 0.9 * most
            assert row["bpp"] == sizes[row["image"], row["point"]]
    assert [(m["target"], m["images"]) for m in table.means] == [
        ("bpp<=14", 3), ("bpp<=9", 3), ("psnr>=30", 3),
    ]  # fmt: skip
    encoded(house)
    again = run(house, points=[], target_bpp=[14, 9], target_psnr=[30], keep_files="kept")
    assert encoded(house) > 9  # files were asked for
    assert {Path(r["file"]).parent.name for r in again.rows} == {"bpp-14", "bpp-9", "psnr-30"}
    run(house, points=[], target_bpp=[14, 9], target_psnr=[30])
    assert encoded(house) == 0


def test_targets_out_of_reach(house):
    table = run(house, target_bpp=[0.01], target_psnr=[3])
    assert len(table.rows) == 6  # targets stand in for the preset's own points
    for row in table.rows:
        if row["target"] == "psnr>=3":
            assert row["point"] == 128  # the end of the knob is more than good enough
        else:
            assert row["error"].startswith("bpp<=0.01 can't be met: step 128 comes to ")
    with pytest.raises(UsageError, match="above 0"):
        run(house, target_bpp=[0])


# -- resuming -----------------------------------------------------------------


def test_a_rerun_computes_only_what_is_missing(house):
    first = run(house, points=[8, 16])
    assert encoded(house) == 6 + 1
    assert run(house, points=[8, 16]).rows == first.rows
    assert encoded(house) == 0
    second = run(house, ["grid", "fine"], points={"grid": [8, 16, 32], "fine": [8]})
    assert encoded(house) == 3 + 3 + 2
    kept = [r for r in second.rows if r["codec"] == "grid" and r["point"] < 32]
    assert kept == first.rows


@pytest.mark.parametrize("change", ["options", "weights", "pixels"])
def test_what_a_result_depends_on_makes_it_anew(house, monkeypatch, change):
    run(house, points=[8])
    encoded(house)
    if change == "weights":
        monkeypatch.setenv("GRID_VERSION", "2")
    if change == "pixels":
        add_image(house / "images" / "im1.png", 77)
    run(house, points=[8], options={"level": 1} if change == "options" else None)
    assert encoded(house) == (1 if change == "pixels" else 3) + 1


def test_renamed_images_and_presets_keep_their_rows(house):
    run(house, points=[8])
    encoded(house)
    (house / "images").rename(house / "others")
    (house / "others" / "im0.png").rename(house / "others" / "zz.png")
    table = run(house, images="others", points=[8])
    assert encoded(house) == 0
    assert [row["image"] for row in table.rows] == ["im1", "im2", "zz"]


def test_kept_files_that_went_away_are_made_again(house):
    table = run(house, points=[8], keep_files="kept")
    Path(table.rows[0]["file"]).unlink()
    Path(table.rows[1]["file"]).write_bytes(b"damaged")
    Path(table.rows[2]["file"]).with_suffix(".png").unlink()
    encoded(house)
    again = run(house, points=[8], keep_files="kept")
    assert encoded(house) == 3 + 1
    assert timeless(again.rows) == timeless(table.rows)
    assert Path(again.rows[1]["file"]).stat().st_size == again.rows[1]["bytes"]


def test_without_a_folder_nothing_is_written(house):
    before = sorted(house.rglob("*"))
    evaluate("grid", "images", plugins=load_plugins([PLUGIN]), points=[8])
    (house / "log").unlink()
    assert sorted(house.rglob("*")) == before


# -- failures -----------------------------------------------------------------


def test_an_image_that_fails_is_a_row(house):
    add_image(house / "images" / "im1.png", 1, first=evaluation_plugin.RAISES)
    add_image(house / "images" / "im2.png", 1, first=evaluation_plugin.WRONG_SHAPE)
    (house / "images" / "im3.png").write_bytes(b"")
    (house / "images" / "im4.png").write_bytes(b"\x89PNG\r\n\x1a\n and so on")
    table = run(house, points=[1])
    by_image = {row["image"]: row for row in table.rows}
    assert by_image["im0"]["status"] == "ok"
    assert by_image["im1"]["error"] == "RuntimeError: this image is cursed"
    assert "decoded to (19, 24, 3)" in by_image["im2"]["error"]
    for name in ("im3", "im4"):
        assert "not an image that can be read" in by_image[name]["error"]
        assert by_image[name]["point"] is None
    assert len(table.failures) == 4
    assert table.means[0]["images"] == 1
    assert table.means[0]["failures"] == 2


def test_errors_stay_until_a_retry_is_asked_for(house, monkeypatch):
    add_image(house / "images" / "im1.png", 1, first=evaluation_plugin.RAISES)
    run(house, points=[8])
    monkeypatch.setattr(evaluation_plugin, "RAISES", -1)
    encoded(house)
    plugins = load_plugins([PLUGIN])
    sys.modules["toolkit_file_evaluation_plugin"].RAISES = -1  # mended
    same = {"plugins": plugins, "points": [8], "out": house / "results"}
    assert len(evaluate("grid", "images", **same).failures) == 1
    assert encoded(house) == 0
    assert not evaluate("grid", "images", **same, retry_errors=True).failures
    assert encoded(house) == 1 + 1


def test_an_observer_that_raises_is_left_out(house, monkeypatch):
    monkeypatch.setenv("GRID_OBSERVED", str(house / "seen"))
    notices = []
    run(house, points=[8], notice=notices.append)
    assert (house / "seen").read_text() == "im0\n"
    (notice,) = notices
    assert "observers may fail" in notice


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"presets": "grit"}, UnknownName, "no preset 'grit'; nearest: grid"),
        ({"images": "nowhere/"}, InputError, "no such file or folder"),
        ({"images": "sample"}, InputError, "nor a data set (nearest: samples)"),
        ({"images": "empty"}, InputError, "no images in this folder"),
        ({"images": "void.png"}, InputError, "the file is empty"),
        ({"points": [129]}, UsageError, "step must be a whole number from 1 to 128, not 129"),
        ({"points": [2.5]}, UsageError, "not 2.5"),
        ({"metrics": ["psnrr"]}, UnknownName, "nearest: psnr"),
        ({"options": {"levle": 3}}, UnknownName, "nearest: level"),
        ({"images": "kodak"}, MissingError, "toolkit data kodak"),
        ({"workers": 0}, UsageError, "workers must be at least 1"),
    ],
)
def test_clear_errors_before_anything_runs(house, monkeypatch, change, error, text):
    monkeypatch.setenv("TOOLKIT_DATA", str(house / "data"))
    (house / "empty").mkdir()
    (house / "void.png").touch()
    with pytest.raises(error) as caught:
        run(house, **change)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (house / "results").exists()
