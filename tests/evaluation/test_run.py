"""The harness as a whole: rows, resuming, failures, workers."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import evaluation_plugin
import msgspec
import numpy as np
import pytest
from evaluation_workspace import (
    PLUGIN,
    add_image,
    encoded,
    run,
    timeless,
    workspace,
)
from msgspec.structs import replace
from PIL import Image

from toolkit.errors import InputError, MissingError, UnknownName, UsageError
from toolkit.plugin.loader import load_plugins, module_name
from toolkit_evaluation import EvaluationSettings, evaluate
from toolkit_evaluation.results.row import Row
from toolkit_evaluation.run.measure import upper_share

__all__ = ["workspace"]  # a fixture

# -- rows ---------------------------------------------------------------------


def test_rows_hold_what_was_measured(workspace):
    table = run(workspace, keep_files=workspace / "kept")
    assert [(r.image, r.point) for r in table.rows[:5]] == [
        ("im0", 8), ("im0", 16), ("im0", 32), ("im0", 64), ("im1", 8),
    ]  # fmt: skip
    for row in table.rows:
        file = Path(row.file)
        assert file.stat().st_size == row.bytes
        assert row.bpp == 8 * row.bytes / (20 * 24)
        assert row.status == "ok"
        assert row.matches_encoder is True
        assert row.ms_ssim is None  # too small for five scales
        assert row.theoretical_bpp == 100 / (20 * 24)
        assert row.theoretical_psnr > 45
        assert row.upper_share == 8 / (8 + 8 * (row.bytes - 8))
        assert sum(row.parts.values()) == 8 * row.bytes
        assert row.network_encode_s == pytest.approx(row.encode_s - 1e-6)
        shown = np.asarray(Image.open(file.with_suffix(".png")))
        original = np.asarray(Image.open(workspace / "images" / f"{row.image}.png"))
        error = np.mean((shown.astype(float) - original) ** 2)
        assert row.psnr == pytest.approx(10 * np.log10(255**2 / error))


def test_means_are_over_the_images(workspace):
    table = run(workspace)
    assert [mean.point for mean in table.means] == [8, 16, 32, 64]
    for mean in table.means:
        own = [row for row in table.rows if row.point == mean.point]
        assert mean.images == 3
        assert mean.value("psnr") == pytest.approx(np.mean([row.psnr for row in own]))
        assert mean.value("bpp") == pytest.approx(np.mean([row.bpp for row in own]))
        assert mean.value("ms_ssim") is None


@pytest.mark.parametrize("shape", [(1, 1, 3), (9, 5, 1), (7, 8, 4), (200, 170, 3)])
def test_modes_and_sizes(workspace, shape):
    add_image(workspace / "one.png", 7, shape=shape)
    (row,) = run(workspace, images="one.png", points=[16]).rows
    assert row.status == "ok"
    assert (row.height, row.width) == shape[:2]
    assert (row.ms_ssim is None) == (min(shape[:2]) < 161)


def test_lossless_has_no_psnr(workspace):
    (row, *_) = run(workspace, points=[1]).rows
    assert row.psnr is None
    assert row.status == "ok"


def test_more_metrics_and_repeat(workspace):
    table = run(workspace, metrics=["psnr", "mean-shift"], points=[8], repeat=3)
    assert "ms_ssim" not in table.rows[0].metrics
    assert table.means[0].value("mean_shift") == pytest.approx(
        np.mean([row.metrics["mean_shift"] for row in table.rows])
    )
    encoded(workspace)
    run(workspace, metrics=["psnr"], points=[8])
    assert encoded(workspace) == 0
    assert "ms_ssim" in run(workspace, points=[8]).rows[0].metrics
    assert encoded(workspace) == 3 + 1


def test_a_decoder_that_disagrees_is_seen(workspace):
    add_image(workspace / "odd.png", 1, first=evaluation_plugin.DIFFERS)
    table = run(workspace, images="odd.png", points=[8])
    assert table.rows[0].matches_encoder is False
    assert table.means[0].mismatches == 1


@pytest.mark.parametrize("separate", [False, True])
def test_a_reconstruction_that_fails_is_an_error(workspace, separate):
    add_image(workspace / "images" / "im1.png", 1, first=evaluation_plugin.NOT_RECONSTRUCTED)
    rows = {row.image: row for row in run(workspace, points=[8], separate=separate).rows}
    assert rows["im1"].error == "RuntimeError: nothing to see"
    assert [rows[name].status for name in ("im0", "im1", "im2")] == ["ok", "error", "ok"]


def test_target_rates_are_met_from_below(workspace):
    table = run(workspace, points=[], target_bpp=[14, 9], target_psnr=[30])
    sizes = {(r.image, r.point): r.bpp for r in run(workspace, points=range(1, 129)).rows}
    dbs = {(r.image, r.point): r.psnr for r in run(workspace, points=range(2, 129)).rows}
    for row in table.rows:
        if row.target == "psnr>=30":
            assert row.psnr >= 30 > dbs[row.image, row.point + 1]
        else:
            most = float(row.target.removeprefix("bpp<="))
            # sizes have small dents: a finer grid may come out smaller by some bytes
            assert most >= row.bpp > 0.9 * most
            assert row.bpp == sizes[row.image, row.point]
    assert [(m.target, m.images) for m in table.means] == [
        ("bpp<=14", 3), ("bpp<=9", 3), ("psnr>=30", 3),
    ]  # fmt: skip
    encoded(workspace)
    again = run(workspace, points=[], target_bpp=[14, 9], target_psnr=[30], keep_files="kept")
    assert encoded(workspace) > 9  # files were asked for
    assert {Path(r.file).parent.name for r in again.rows} == {"bpp-14", "bpp-9", "psnr-30"}
    run(workspace, points=[], target_bpp=[14, 9], target_psnr=[30])
    assert encoded(workspace) == 0


def test_targets_out_of_reach(workspace):
    table = run(workspace, target_bpp=[0.01], target_psnr=[3])
    assert len(table.rows) == 6  # targets stand in for the preset's own points
    for row in table.rows:
        if row.target == "psnr>=3":
            assert row.point == 128  # the end of the range is more than good enough
        else:
            assert row.error.startswith("bpp<=0.01 can't be met: step 128 comes to ")
    with pytest.raises(UsageError, match="above 0"):
        run(workspace, target_bpp=[0])


def test_the_share_of_upper_levels_counts_their_side_information():
    parts = {"header": 9.0, "a": 10.0, "a.side": 2.0, "ab": 5.0, "b": 8.0, "c.side": 4.0, "c": 16.0}
    assert upper_share(parts, ["a", "b", "c"]) == 20 / 40
    assert upper_share(parts, ["b", "c"]) == 8 / 28
    assert upper_share(parts, ["c"]) is None
    assert upper_share(parts, []) is None


def test_rows_of_earlier_versions_are_read(workspace):
    first = run(workspace, points=[8])
    file = workspace / "results" / "rows.jsonl"
    file.write_text(file.read_text().replace('"upper_share"', '"level2_share"'))
    encoded(workspace)
    again = run(workspace, points=[8])
    assert encoded(workspace) == 0
    assert again.rows == first.rows
    assert first.rows[0].upper_share is not None


def test_rows_are_the_same_after_a_file():
    row = Row(
        key="k", image="i", codec="c", status="ok", metrics={"psnr": 30.5, "odd": None},
        parts={"a": 1.0}, bytes=7, separate=True,
    )  # fmt: skip
    plain = row.to_dict()
    assert list(plain)[:3] == ["key", "image", "codec"]
    assert plain["psnr"] == 30.5
    assert Row.from_dict(msgspec.json.decode(msgspec.json.encode(plain))) == row
    assert Row.from_dict(plain | {"note": "text of another version"}) == row
    failed = Row(key="k", image="i", codec="c", status="error", error="why", metrics={"psnr": None})
    assert "width" not in failed.to_dict()
    assert {"psnr", "bpp", "error", "file"} <= set(failed.to_dict())


def test_codecs_whose_files_are_pictures_keep_theirs_and_the_reconstruction(workspace):
    registry = workspace / "registry.yaml"
    registry.write_text(registry.read_text() + "  png: {codec: grid-png, sweep: [8]}\n")
    (row,) = run(workspace, "png", images="images/im0.png", keep_files="kept").rows
    assert Path(row.file).name == "im0.png"
    assert Path(row.file).stat().st_size == row.bytes
    assert (Path(row.file).parent / "im0.decoded.png").is_file()
    encoded(workspace)
    run(workspace, "png", images="images/im0.png", keep_files="kept")
    assert encoded(workspace) == 0
    (Path(row.file).parent / "im0.decoded.png").unlink()
    run(workspace, "png", images="images/im0.png", keep_files="kept")
    assert encoded(workspace) == 1 + 1


# -- resuming -----------------------------------------------------------------


def test_a_rerun_computes_only_what_is_missing(workspace):
    first = run(workspace, points=[8, 16])
    assert encoded(workspace) == 6 + 1
    assert run(workspace, points=[8, 16]).rows == first.rows
    assert encoded(workspace) == 0
    second = run(workspace, ["grid", "fine"], points={"grid": [8, 16, 32], "fine": [8]})
    assert encoded(workspace) == 3 + 3 + 2
    kept = [r for r in second.rows if r.codec == "grid" and r.point < 32]
    assert kept == first.rows


@pytest.mark.parametrize("change", ["options", "weights", "pixels"])
def test_what_a_result_depends_on_makes_it_anew(workspace, monkeypatch, change):
    run(workspace, points=[8])
    encoded(workspace)
    if change == "weights":
        monkeypatch.setenv("GRID_VERSION", "2")
    if change == "pixels":
        add_image(workspace / "images" / "im1.png", 77)
    run(workspace, points=[8], options={"level": 1} if change == "options" else None)
    assert encoded(workspace) == (1 if change == "pixels" else 3) + 1


def test_renamed_images_and_presets_keep_their_rows(workspace):
    run(workspace, points=[8])
    encoded(workspace)
    (workspace / "images").rename(workspace / "others")
    (workspace / "others" / "im0.png").rename(workspace / "others" / "zz.png")
    table = run(workspace, images="others", points=[8])
    assert encoded(workspace) == 0
    assert [row.image for row in table.rows] == ["im1", "im2", "zz"]


def test_kept_files_that_went_away_are_made_again(workspace):
    table = run(workspace, points=[8], keep_files="kept")
    Path(table.rows[0].file).unlink()
    Path(table.rows[1].file).write_bytes(b"damaged")
    Path(table.rows[2].file).with_suffix(".png").unlink()
    encoded(workspace)
    again = run(workspace, points=[8], keep_files="kept")
    assert encoded(workspace) == 3 + 1
    assert timeless(again.rows) == timeless(table.rows)
    assert Path(again.rows[1].file).stat().st_size == again.rows[1].bytes


def test_without_a_folder_nothing_is_written(workspace):
    before = sorted(workspace.rglob("*"))
    evaluate("grid", "images", EvaluationSettings(points=[8]), plugins=load_plugins([PLUGIN]))
    (workspace / "log").unlink()
    assert sorted(workspace.rglob("*")) == before


# -- failures -----------------------------------------------------------------


def test_an_image_that_fails_is_a_row(workspace):
    add_image(workspace / "images" / "im1.png", 1, first=evaluation_plugin.RAISES)
    add_image(workspace / "images" / "im2.png", 1, first=evaluation_plugin.WRONG_SHAPE)
    (workspace / "images" / "im3.png").write_bytes(b"")
    (workspace / "images" / "im4.png").write_bytes(b"\x89PNG\r\n\x1a\n and so on")
    table = run(workspace, points=[1])
    by_image = {row.image: row for row in table.rows}
    assert by_image["im0"].status == "ok"
    assert by_image["im1"].error == "RuntimeError: this image is cursed"
    assert "decoded to (19, 24, 3)" in by_image["im2"].error
    for name in ("im3", "im4"):
        assert "not an image that can be read" in by_image[name].error
        assert by_image[name].point is None
    assert len(table.failures) == 4
    assert table.means[0].images == 1
    assert table.means[0].failures == 2


def test_errors_stay_until_a_retry_is_asked_for(workspace, monkeypatch):
    add_image(workspace / "images" / "im1.png", 1, first=evaluation_plugin.RAISES)
    run(workspace, points=[8])
    monkeypatch.setattr(evaluation_plugin, "RAISES", -1)
    encoded(workspace)
    plugins = load_plugins([PLUGIN])
    # mended: in the module that was loaded from the file, which later tests load again
    monkeypatch.setattr(sys.modules[module_name(PLUGIN)], "RAISES", -1)
    settings = EvaluationSettings(points=[8], out=workspace / "results")
    again = replace(settings, retry_errors=True)
    assert len(evaluate("grid", "images", settings, plugins=plugins).failures) == 1
    assert encoded(workspace) == 0
    assert not evaluate("grid", "images", again, plugins=plugins).failures
    assert encoded(workspace) == 1 + 1


def test_settings_are_checked_and_fit_a_process():
    settings = EvaluationSettings(points={"grid": [8]}, out="results", target_bpp=[1.5])
    assert settings.out == Path("results")
    assert settings.points_of("grid") == [8]
    assert settings.points_of("fine") is None
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert str(settings.targets[0]) == "bpp<=1.5"
    with pytest.raises(UsageError, match="repeat must be at least 1"):
        EvaluationSettings(repeat=0)
    with pytest.raises(AttributeError):
        settings.out = None


def test_an_observer_that_raises_is_left_out(workspace, monkeypatch):
    monkeypatch.setenv("GRID_OBSERVED", str(workspace / "seen"))
    notices = []
    run(workspace, points=[8], notice=notices.append)
    assert (workspace / "seen").read_text() == "im0\n"
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
def test_clear_errors_before_anything_runs(workspace, monkeypatch, change, error, text):
    monkeypatch.setenv("TOOLKIT_DATA", str(workspace / "data"))
    (workspace / "empty").mkdir()
    (workspace / "void.png").touch()
    with pytest.raises(error) as caught:
        run(workspace, **change)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (workspace / "results").exists()
