"""CompressAI's architectures are entropy models: trained, exported and coded as any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from training_runs import make_photos, recipe, trainer

from toolkit.api import decode_file
from toolkit.codec.base import DecodeSettings
from toolkit.errors import UsageError
from toolkit.options import parse_options
from toolkit.plugin.loader import load_plugins
from toolkit.testing import check_entropy_model
from toolkit.training.export import export
from toolkit_plugins.compressai.checkpoints import ARCHITECTURES, VARIABLE_RATE
from toolkit_plugins.compressai.trainable import settle_quantiles

PLUGINS = load_plugins()
QUICK = ("bmshj2018-factorized", "mbt2018-mean-vbr")


def sizes(architecture: str) -> dict[str, int]:
    return {"width": 16} if architecture.startswith("cheng") else {"width": 6, "latent_channels": 8}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("photos"))


def test_every_architecture_is_a_model_and_a_codec_of_its_own() -> None:
    for name in ARCHITECTURES:
        spec = PLUGINS.codec(name)
        assert spec.model == PLUGINS.entropy_model(name)
        assert PLUGINS.entropy_model(name).loaded.name == name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_passes_the_kit(name: str) -> None:
    # latents of random weights are rounded to zeros, where offsets of the quantizer are none
    idle = ("net.QuantABCD", "net.g_s.0.weight") if name in VARIABLE_RATE else ()
    report = check_entropy_model(name, sizes(name), idle=idle, plugins=PLUGINS)
    assert report.checks == ["export", "training pass", "gradients"]


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in ARCHITECTURES]
)
def test_what_was_trained_codes_and_decodes(name: str, photos: Path, tmp_path: Path) -> None:
    schedule = {"steps": 4, "warmup": 2, "phases": [{"until": 1, "crop": 96, "batch": 2}]}
    run = trainer(recipe(photos, model=name, options=sizes(name), schedule=schedule), tmp_path)
    before = {key: value.clone() for key, value in run.parts.state_dict().items()}
    run.run()
    assert any(not torch.equal(v, before[k]) for k, v in run.parts.state_dict().items())
    weights = export(run)
    spec = PLUGINS.codec(name)
    options = parse_options(spec.loaded.options_class, {"weights": str(weights)}, "test")
    pixels = np.asarray(Image.open(photos / "0.png"))
    encoded = spec.loaded(spec, options, PLUGINS).encode(pixels, 3)
    found = decode_file(encoded.data, DecodeSettings(weights=weights)).pixels
    assert found.shape == pixels.shape  # in another process, which found the same parameters
    sampled = {"architecture": name, "weights": str(weights), "coding": "sampled"}
    if name == "mbt2018-mean-vbr":  # the same weights, their latents coded otherwise
        latents = PLUGINS.codec("latents")
        parsed = parse_options(latents.loaded.options_class, sampled, "test")
        encoded = latents.loaded(latents, parsed, PLUGINS).encode(pixels, 3)
        found = decode_file(encoded.data, DecodeSettings(weights=weights)).pixels
        np.testing.assert_array_equal(found, encoded.reconstruction)


def test_weights_of_another_architecture_are_refused(photos: Path, tmp_path: Path) -> None:
    name = "mbt2018-mean"
    run = trainer(recipe(photos, model=name, options=sizes(name)), tmp_path)
    spec = PLUGINS.codec("bmshj2018-hyperprior")
    options = parse_options(spec.loaded.options_class, {"weights": str(export(run))}, "test")
    with pytest.raises(
        UsageError, match="weights of 'mbt2018-mean', not of 'bmshj2018-hyperprior'"
    ):
        spec.loaded(spec, options, PLUGINS).encode(np.zeros((64, 64, 3), np.uint8), 3)


def test_quantiles_are_those_of_the_density() -> None:
    """As ``aux_loss``, by which CompressAI learns them, says: it is 0 there."""
    model: Any = PLUGINS.entropy_model("mbt2018-mean").loaded
    torch.manual_seed(3)
    bottleneck = model(model.options_class(width=6, latent_channels=8)).net.entropy_bottleneck
    with torch.no_grad():
        for parameter in bottleneck.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    before = float(bottleneck.loss().detach())
    settle_quantiles(bottleneck)
    assert float(bottleneck.loss().detach()) < 0.01 < before
    quantiles = bottleneck.quantiles[:, 0]
    assert (quantiles[:, 0] < quantiles[:, 1]).all()
    assert (quantiles[:, 1] < quantiles[:, 2]).all()
