"""Cross-sections of the latent space: their figures, and what they are drawn from."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from evaluation_workspace import PLUGIN, add_image, run, workspace
from PIL import Image

import toolkit
from toolkit.codec.base import LatentLevel
from toolkit.errors import InputError, UnknownName
from toolkit.plugin.loader import load_plugins
from toolkit.sampling.contract import kl_bits
from toolkit_evaluation.data.datasets import sample_paths
from toolkit_evaluation.run.recorded import read_run
from toolkit_evaluation.thesis.cross_sections import cross_sections
from toolkit_evaluation.thesis.latents import (
    channel_bits,
    explained,
    highest_rate_channels,
    neighbour_correlation,
    standardised,
    statistics,
)

__all__ = ["workspace"]  # a fixture

REGISTRY = """
presets:
  grid: {codec: grid, sweep: [4, 64]}
  deep: {codec: grid, options: {latents: true}, sweep: [4, 64]}
  twin: {codec: grid, options: {latents: true, level: 9}, sweep: [4, 16]}
  second: {codec: grid, options: {latents: true, latent_seed: 1}, sweep: [4, 64]}
  single: {codec: grid, options: {latents: true, one_level: true}, sweep: [4, 64]}
"""


def level(prior_mean, prior_scale, mean, scale, sample):
    shape = (2, 16, 24)
    return LatentLevel("a", *(np.broadcast_to(np.float32(v), shape) for v in
                              (prior_mean, prior_scale, mean, scale, sample)))  # fmt: skip


# -- statistics ---------------------------------------------------------------


def test_bits_of_known_gaussians():
    scales = np.array([1, 0.25])[:, None, None]
    found = channel_bits(level(3, 2, 3, 2 * scales, 3))
    assert found[0] == 0
    assert found[1] == pytest.approx(16 * 24 * (0.5 * (1 / 16 - 1) / np.log(2) + 2), rel=1e-6)
    assert highest_rate_channels(level(3, 2, 3, 2 * scales, 3), 2) == [1, 0]


def test_neighbours_of_noise_waves_and_nothing():
    noise = np.random.default_rng(0).normal(size=(16, 24))
    checks = np.indices((16, 24)).sum(0) % 2
    smooth = np.add.outer(np.arange(16), np.arange(24))
    found = neighbour_correlation(np.float32([noise, checks, smooth, 0 * noise]))
    assert abs(found[0]) < 0.15
    assert found[1:] == pytest.approx([-1, 1, 0], abs=0.03)
    assert neighbour_correlation(np.ones((2, 1, 1), np.float32)).tolist() == [0, 0]


def test_standardised_by_the_prior():
    noise = np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32)
    ramp = np.add.outer(np.arange(16), np.arange(24)).astype(np.float32)
    informed = level(ramp, 0.5, ramp, 0.1, ramp + 0.5 * noise)
    np.testing.assert_allclose(standardised(informed)[1], noise, atol=1e-5)
    assert (explained(informed) > 0.99).all()
    uninformed = replace(informed, prior_mean=np.zeros_like(informed.sample))
    assert explained(uninformed) == pytest.approx([0, 0])
    everything, first, _ = statistics(informed)
    assert everything["channel"] == "all"
    assert everything["neighbours"] > 0.9 > 0.2 > abs(everything["neighbours_standardised"])
    assert everything["kl_bits"] == pytest.approx(2 * first["kl_bits"])


def test_levels_of_the_pln_are_what_it_codes():
    codec = toolkit.load("pln")
    path = next(path for path in sample_paths() if path.stem == "astronaut")
    pixels = np.ascontiguousarray(np.asarray(Image.open(path))[:200, 100:330])
    levels = codec.latent_levels(pixels, 0.4)
    assert [found.name for found in levels] == ["level2", "level1"]
    assert levels[0].sample.shape[0] < levels[1].sample.shape[0]
    for found, target in zip(levels, codec.targets(pixels, 0.4), strict=True):
        assert channel_bits(found).sum() == pytest.approx(
            kl_bits(target.d, target.r).sum(), rel=1e-4
        )
        for name in ("prior_mean", "prior_scale", "posterior_mean", "posterior_scale"):
            assert getattr(found, name).shape == found.sample.shape
            assert getattr(found, name).dtype == np.float32
        distance = (found.sample - found.posterior_mean) / found.posterior_scale
        assert distance.std() == pytest.approx(1, abs=0.05)
    # what the second level is for: the first one's sample is less alike to itself around
    before, after = (next(statistics(levels[1]))[name] for name in
                     ("neighbours", "neighbours_standardised"))  # fmt: skip
    assert after < before


# -- figures ------------------------------------------------------------------


@pytest.fixture
def deep(workspace):
    """A run of three codecs over three images; two have latents, the same."""
    (workspace / "registry.yaml").write_text(REGISTRY)
    run(workspace, ["grid", "deep", "twin"])
    return workspace


def test_figures_of_a_run(deep):
    notices = []
    recorded = read_run(deep / "results")
    paths = cross_sections(recorded, load_plugins([PLUGIN]), "im1", deep / "out", notices.append)
    names = ["3.3", "4.3", "4.4"]
    assert [path.name for path in paths] == [f"figure-{name}-deep.png" for name in names]
    assert all(Image.open(path).size[0] > 500 for path in paths)
    assert notices == [
        "grid: has no Gaussian latents; no cross-sections",
        "twin: its latents are those of deep; no cross-sections of its own",
    ]
    with (deep / "out" / "latents.csv").open() as file:
        records = list(csv.DictReader(file))
    assert len(records) == 2 * 2 * (1 + 3)
    assert {record["point"] for record in records} == {"4.0", "64.0"}
    low = next(r for r in records if r["level"] == "low" and r["channel"] == "all")
    assert float(low["explained"]) > 0.9


def test_each_figure_is_of_the_model_that_the_thesis_shows(workspace):
    """3.1 of one level, 3.3 of the first ladder, 3.4 of the next."""
    (workspace / "registry.yaml").write_text(REGISTRY)
    run(workspace, ["single", "deep", "second"])
    recorded = read_run(workspace / "results")
    paths = cross_sections(recorded, load_plugins([PLUGIN]), None, workspace / "out", print)
    assert [path.stem.removeprefix("figure-") for path in paths] == [
        "3.1-single",
        *("3.3-deep", "4.3-deep", "4.4-deep"),
        *("3.4-second", "4.3-second", "4.4-second"),
    ]


def test_images_that_are_not_there(deep):
    recorded, plugins = read_run(deep / "results"), load_plugins([PLUGIN])
    with pytest.raises(UnknownName, match="no image 'im7'; nearest: im"):
        cross_sections(recorded, plugins, "im7", deep / "out", print)
    add_image(deep / "images" / "im0.png", 55)
    with pytest.raises(InputError, match=r"im0\.png: not the image that was measured"):
        cross_sections(recorded, plugins, None, deep / "out", print)
    (deep / "images" / "im0.png").unlink()
    with pytest.raises(InputError, match="no such file"):
        cross_sections(recorded, plugins, None, deep / "out", print)
    assert not (deep / "out").exists()


def test_a_codec_that_changed_or_went_away_is_said(deep, monkeypatch):
    notices = []
    monkeypatch.setenv("GRID_VERSION", "2")
    module = "toolkit_evaluation.thesis.cross_sections"
    monkeypatch.setattr(f"{module}.save", lambda figure, path: None)
    monkeypatch.setattr(
        "toolkit_evaluation.thesis.cross_sections._figures", lambda found, first: {"0": None}
    )
    recorded, plugins = read_run(deep / "results"), load_plugins([PLUGIN])
    assert cross_sections(recorded, plugins, None, deep / "out", notices.append)
    assert any(n.startswith("deep: weights or libraries aren't those of the run") for n in notices)
    record = json.loads((deep / "results" / "run.json").read_bytes())
    record["presets"] = [p | {"codec": "gone"} for p in record["presets"] if p["name"] != "twin"]
    (deep / "results" / "run.json").write_text(json.dumps(record))
    notices.clear()
    recorded = read_run(deep / "results")
    assert cross_sections(recorded, plugins, None, deep / "out", notices.append) == []
    assert "no codec 'gone'" in notices[1]
    assert notices[2] == "twin: no results of im0 in the last evaluation; no cross-sections"


def test_the_command(workspace):
    (workspace / "registry.yaml").write_text(REGISTRY)
    run(workspace, "deep", points=[8])
    code = "from toolkit.cli import main; main()"
    line = ["report", "--plugin", str(PLUGIN), "results", "--latents", "im2", "--pictures", "0"]
    done = subprocess.run(
        [sys.executable, "-c", code, *line],
        cwd=workspace,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "results/report/latents/figure-4.3-deep.png" in done.stdout
