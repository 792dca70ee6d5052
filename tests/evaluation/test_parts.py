"""Parts of the harness: store, data sets, metrics, BD-rate, reference curves, Kodak."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from toolkit.errors import InputError, MissingError
from toolkit_evaluation import Table
from toolkit_evaluation.data import kodak
from toolkit_evaluation.data.datasets import find_images
from toolkit_evaluation.metrics.external import ProgramFailed, butteraugli, ssimulacra2
from toolkit_evaluation.metrics.fidelity import ms_ssim, psnr, psnr_y, similarity_decibels, ssim
from toolkit_evaluation.results.bdrate import bd_rate, matched_pairs
from toolkit_evaluation.results.curve import curve_of, overlap, rising
from toolkit_evaluation.results.figure import save
from toolkit_evaluation.results.reference import read_reference, read_references
from toolkit_evaluation.results.row import Row
from toolkit_evaluation.run.store import FolderStore

DATA = Path(__file__).parents[3] / "shared" / "data"
PUBLISHED = DATA / "reference" / "compressai-kodak"
needs_published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="no published tables here")
needs_kodak = pytest.mark.skipif(not (DATA / "kodak").is_dir(), reason="no Kodak images here")


# -- store --------------------------------------------------------------------


def stored_row(key, image):
    return Row(key=key, image=image, codec="grid", status="ok", metrics={"psnr": 30.0})


@given(cut=st.integers(1, 60), rows=st.integers(1, 5))
def test_a_torn_row_is_dropped_and_the_others_stay(tmp_path_factory, cut, rows):
    folder = tmp_path_factory.mktemp("store")
    with FolderStore(folder) as store:
        for number in range(rows):
            store.add(stored_row(f"k{number}", "é" * 30))
    path = folder / "rows.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    notices = []
    with FolderStore(folder, notices.append) as store:
        assert store.get(f"k{rows - 1}") is None
        assert all(store.get(f"k{n}") for n in range(rows - 1))
        store.add(stored_row(f"k{rows - 1}", "é" * 30))
    assert len(notices) == 1
    assert path.read_bytes() == whole


def test_a_line_that_is_no_row_is_left_out(tmp_path):
    with FolderStore(tmp_path) as store:
        store.add(stored_row("a", "one"))
    with open(tmp_path / "rows.jsonl", "ab") as file:
        file.write(b'{"key": "b", "n"\xff\n[1]\n{"no": "key"}\n')
        later = stored_row("a", "two").to_dict()
        file.write(json.dumps(later).encode() + b"\n")
        file.write(json.dumps(later | {"bpp": "much"}).encode() + b"\n")
    notices = []
    with FolderStore(tmp_path, notices.append) as store:
        assert store.get("a") == stored_row("a", "two")
        assert store.get("b") is None
    assert len(notices) == 4


def test_a_store_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't write there"):
        FolderStore(tmp_path / "file" / "results")


# -- data sets ----------------------------------------------------------------


def test_samples_are_four_photographs_offline():
    images = find_images(["samples"])
    assert [image.name for image in images] == ["astronaut", "chelsea", "coffee", "rocket"]
    assert [Image.open(image.path).size for image in images] == [
        (512, 512), (451, 300), (600, 400), (640, 427),
    ]  # fmt: skip


def test_names_are_as_long_as_they_must_be(tmp_path):
    for name in ("a/x.png", "a/y.png", "a/x.jpg", "b/y.png", "b/z.v2.png", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("some bytes")
    names = [i.name for i in find_images([tmp_path / "a", tmp_path / "b", tmp_path / "a"])]
    assert names == ["x.jpg", "x.png", "a-y.png", "b-y.png", "z.v2"]


@needs_kodak
def test_kodak_is_imported_and_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("TOOLKIT_DATA", str(tmp_path / "cache"))
    source = tmp_path / "mine"
    shutil.copytree(DATA / "kodak", source)
    seen = []
    folder = kodak.fetch_kodak(source=source, step=seen.append)
    assert len(seen) == 24
    assert [image.path.parent for image in find_images(["kodak/"])] == [folder] * 24
    other = np.asarray(Image.open(source / "kodim07.png")).copy()
    other[0, 0, 0] ^= 1
    Image.fromarray(other).save(source / "kodim07.png")
    assert kodak.fetch_kodak(source=source) == folder  # what is there and right stays
    (folder / "kodim07.png").unlink()
    with pytest.raises(InputError, match=r"kodim07\.png .* not the Kodak image's pixels"):
        kodak.fetch_kodak(source=source)
    assert not (folder / "kodim07.png").exists()


def test_kodak_offline_names_the_other_way(tmp_path, monkeypatch):
    monkeypatch.setattr(kodak, "SOURCE", "https://localhost:9/kodak")
    with pytest.raises(MissingError, match="--from FOLDER"):
        kodak.fetch_kodak(tmp_path)
    with pytest.raises(MissingError, match=r"no kodim01\.png there"):
        kodak.fetch_kodak(tmp_path / "to", source=tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        kodak.fetch_kodak(tmp_path / "to", source=tmp_path / "nowhere")


# -- metrics ------------------------------------------------------------------


def test_psnr_of_a_known_error():
    black = np.zeros((4, 5, 3), np.uint8)
    off = black.copy()
    off[..., 1] = 3
    assert psnr(black, off) == pytest.approx(10 * np.log10(255**2 / 3))
    assert psnr_y(black, off) == pytest.approx(20 * np.log10(255 / (3 * 0.587)))
    assert psnr(black, 255 - black) == 0
    assert psnr(black, black) == np.inf


def test_similarity_against_its_own_library():
    import torch
    from pytorch_msssim import ms_ssim as library

    rng = np.random.default_rng(1)
    first = rng.integers(0, 256, (180, 200, 3)).astype(np.uint8)
    second = np.clip(first + rng.normal(0, 20, first.shape), 0, 255).astype(np.uint8)
    planes = [torch.tensor(i.transpose(2, 0, 1)[None]).float() for i in (first, second)]
    assert ms_ssim(first, second) == pytest.approx(float(library(*planes, data_range=255)), 1e-5)
    assert ms_ssim(first, first) == pytest.approx(1)
    assert np.isnan(ms_ssim(first[:160], second[:160]))
    assert not np.isnan(ms_ssim(first[:161, :161], second[:161, :161]))
    assert 0 < ssim(first, second) < 1
    assert similarity_decibels(0.99) == pytest.approx(20)
    assert similarity_decibels(1.0) is None


def test_metrics_that_are_programs(tmp_path, monkeypatch):
    program = tmp_path / "ssimulacra2"
    check = "import sys; from PIL import Image; print(Image.open(sys.argv[1]).size[0] / 4)"
    program.write_text(f"#!{sys.executable}\n{check}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    image = np.zeros((4, 5, 3), np.uint8)
    assert ssimulacra2(image, image) == 1.25
    program.write_text(f"#!{sys.executable}\nraise SystemExit('no such colour space')\n")
    with pytest.raises(ProgramFailed, match="exit status 1, no such colour space"):
        ssimulacra2(image, image)
    with pytest.raises(ProgramFailed, match="butteraugli_main"):
        butteraugli(image, image)


# -- BD-rate ------------------------------------------------------------------


@needs_published
def test_bd_rate_of_the_published_tables():
    """The library's figures for CompressAI's tables: BPG against JPEG, PCHIP."""
    jpeg, bpg = (
        read_reference(PUBLISHED / name).points for name in ("jpeg.json", "bpg_444_x265_ycbcr.json")
    )
    curves = [[curve_of(rows, metric) for rows in (jpeg, bpg)] for metric in ("psnr", "ms_ssim")]
    assert bd_rate(*curves[0], method="pchip") == pytest.approx(-59, abs=1)
    assert bd_rate(*curves[0]) == pytest.approx(-59, abs=1.5)
    assert bd_rate(*curves[1], method="pchip") == pytest.approx(-48, abs=1)


def test_bd_rate_of_scaled_rates_is_the_scale():
    anchor = [(0.1 * 2**n, 25 + 3 * n + 0.1 * n**2) for n in range(6)]
    test = [(0.7 * rate, quality) for rate, quality in anchor]
    for method in ("akima", "pchip"):
        assert bd_rate(anchor, test, method) == pytest.approx(-30)
        assert bd_rate(anchor, anchor, method) == pytest.approx(0)


def test_bd_rate_where_there_is_none():
    anchor = [(0.1 * 2**n, 25 + 3 * n) for n in range(6)]
    assert bd_rate(anchor, anchor[:3]) is None
    assert bd_rate(anchor, [(r, q + 40) for r, q in anchor]) is None
    assert overlap(anchor, [(r, q + 40) for r, q in anchor]) == (None, 0)
    assert overlap(anchor, [(r, q + 5) for r, q in anchor]) == ((30, 40), 0.5)


@given(st.lists(st.tuples(st.floats(0.01, 5), st.floats(10, 50)), max_size=20))
def test_rising_is_strict_and_keeps_the_best(points):
    curve = rising(points)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in itertools.pairwise(curve))
    for rate, quality in points:
        assert any(r <= rate and q >= quality for r, q in curve)


def rows(codec, factor, image="a"):
    return [
        Row(
            key=f"{codec} {image} {n}",
            image=image,
            codec=codec,
            point=float(n),
            status="ok",
            bpp=factor * 2**n,
            metrics={"psnr": 25.0 + 3 * n, "ms_ssim": 1 - 10 ** -(0.8 + 0.3 * n)},
            theoretical_bpp=factor * 2**n / 2 if codec == "pln" else None,
            theoretical_psnr=25.0 + 3 * n,
        )
        for n in range(5)
    ]


def test_bd_rates_of_a_table():
    table = Table(rows("jpeg", 0.1) + rows("pln", 0.06) + rows("pln", 0.02, "b"), anchor="jpeg")
    found = {(bd.codec, bd.metric, bd.image, bd.theoretical): bd for bd in table.bd_rates()}
    assert found["pln", "psnr", "a", False].akima == pytest.approx(-40)
    assert found["pln", "psnr", "a", True].pchip == pytest.approx(-70)
    assert found["pln", "ms_ssim", "a", False].akima == pytest.approx(-40)
    assert found["pln", "psnr", None, False].akima == pytest.approx(-60)
    assert found["pln", "psnr", None, False].overlap == (25, 37)
    assert ("pln", "psnr", "b", False) not in found  # nothing to compare it with
    assert Table(rows("pln", 1)).bd_rates() == []


def test_matched_pairs_are_at_the_anchors_qualities():
    pairs = matched_pairs(rows("jpeg", 0.1), rows("pln", 0.06)[1:], "psnr")
    assert [pair.quality for pair in pairs] == [28, 31, 34, 37]
    for pair in pairs:
        assert pair.percent == pytest.approx(-40)
        assert pair.bpp == pytest.approx(0.6 * pair.anchor_bpp)


# -- curves -------------------------------------------------------------------


@needs_published
def test_reference_curves():
    usual = read_references(PUBLISHED)
    assert [curve.name for curve in usual] == ["JPEG", "BPG 4:4:4", "hyperprior (MSE)", "VTM"]
    assert usual[0].points[0].bpp == pytest.approx(0.22115, abs=1e-5)


def test_reference_files_that_are_none(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        read_references(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no JSON files"):
        read_references(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps({"results": {"bpp": [1, 2], "psnr-rgb": [3]}}))
    with pytest.raises(InputError, match="not a table of results"):
        read_references(tmp_path)


def test_figures_are_reproducible(tmp_path):
    table = Table(rows("jpeg", 0.1) + rows("pln", 0.06))
    for kind in ("svg", "png"):
        for name in ("a", "b"):
            save(table.figure(), tmp_path / f"{name}.{kind}")
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    text = (tmp_path / "a.svg").read_text()
    assert "pln, theoretical" in text
