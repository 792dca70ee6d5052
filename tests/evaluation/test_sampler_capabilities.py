"""The bench of samplers and codecs that send samples only by an option; who can do what."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import optional_samples_plugin
import pytest
from evaluation_workspace import add_image
from PIL import Image

from toolkit import cli
from toolkit.plugin.loader import load_plugins
from toolkit.plugin.presets import Preset, open_codec
from toolkit.sampling.capabilities import (
    CountsIndices,
    FitsBytes,
    HasThreads,
    SendsSamples,
    sends_samples,
)
from toolkit.sampling.choice import SamplerChoice
from toolkit_evaluation.samplers.bench import synthetic_levels

PLUGIN = Path(optional_samples_plugin.__file__)
REGISTRY = """
shipped: false
presets:
  flat: {codec: flat, sweep: [50]}
  jpeg: {codec: jpeg, sweep: [50]}
  absent: {codec: heic, sweep: [50]}
"""


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """The command; its status, means and messages."""
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    add_image(tmp_path / "photo.png", 3, shape=(40, 48, 3))
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        line = ["bench", "samplers", "--plugin", str(PLUGIN), *arguments, "--json", "-"]
        monkeypatch.setattr("sys.argv", ["toolkit", *line])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        means = json.loads(captured.out)["means"] if captured.out else []
        return int(stop.value.code or 0), means, captured.err

    return call


def test_a_codec_that_samples_by_option_alone(bench):
    status, _, errors = bench("--codec", "flat", "--synthetic")
    assert status == 2
    assert "codec 'flat' sends no samples with these options" in errors
    status, means, _ = bench(
        "--codec", "flat", "-o", "coding=sampled", "--synthetic", "--point", "0.5"
    )
    assert (status, [mean["sampler"] for mean in means]) == (0, ["greedy"])


def test_samplers_put_into_it(bench):
    status, means, _ = bench(
        "--codec", "flat", "--sampler", "trellis,nu=8", "photo.png", "--no-psnr"
    )
    assert status == 0
    assert [(mean["preset"], mean["sampler"]) for mean in means] == [("trellis,nu=8", "trellis")]
    d = np.asarray(Image.open("photo.png")) / 128 - 1
    kl = 0.5 * (d**2 + 0.25 - 1) - np.log(0.5)
    assert means[0]["kl_bits"] == pytest.approx(kl.sum() / np.log(2), rel=1e-4)


def test_presets_that_sample_are_found_by_their_options(bench):
    status, _, errors = bench("--synthetic")
    assert status == 2
    assert "no preset whose codec sends samples" in errors
    Path("registry.yaml").write_text(
        f"{REGISTRY}  mine: {{codec: flat, options: {{coding: sampled}}, sweep: [50]}}\n"
        "  gone: {codec: pln, options: {weights: not-shipped}, sweep: [0.5]}\n"
    )
    status, means, _ = bench("--synthetic", "--point", "0.5")
    assert (status, [mean["preset"] for mean in means]) == (0, ["mine"])


def test_who_can_do_what():
    plugins = load_plugins([PLUGIN])

    def sampler(name, **options):
        return SamplerChoice.from_options(plugins, {"sampler": name, **options}, "").build()

    assert isinstance(sampler("trellis"), FitsBytes)
    assert isinstance(sampler("trellis"), HasThreads)
    assert isinstance(sampler("rejection"), CountsIndices)
    assert not isinstance(sampler("greedy"), FitsBytes | CountsIndices)
    plain = open_codec(plugins, Preset("flat", "flat", {}, ()))
    sampled = open_codec(plugins, Preset("flat", "flat", {"coding": "sampled"}, ()))
    assert isinstance(plain, SendsSamples)
    assert (sends_samples(plain), sends_samples(sampled)) == (False, True)
    assert not sends_samples(open_codec(plugins, Preset("jpeg", "jpeg", {}, ())))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_synthetic_ladders_of_any_depth(depth):
    names = [f"part{number}" for number in range(depth)]
    levels = synthetic_levels(2.0, names)
    assert [level.name for level in levels] == names
    assert [level.d.shape for level in levels] == [(24, 8, 12), (24, 16, 24), (128, 32, 48)][
        -depth:
    ]
