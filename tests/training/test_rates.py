"""`toolkit train-rates`: weights that guess rates, and files coded with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from random_models import picture
from training_runs import SMALL_DEEP, recipe, trainer

import toolkit
from toolkit.codec.base import Codec, DecodeSettings
from toolkit.format.errors import OtherModel
from toolkit.format.weights import find_weights, fingerprint, load_weights
from toolkit.options import parse_options
from toolkit.plugin.loader import load_plugins
from toolkit.training.export import export
from toolkit.training.rates import RatesPlan, train_rates_of

Run = Callable[..., tuple[int, str, str]]
LEVELS = {"default": {"sampler": "trellis", "layout": 3, "nu": 8}}


@pytest.fixture(scope="module")
def plain(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    schedule = {"steps": 2, "warmup": 1, "phases": [{"until": 1, "crop": 64, "batch": 1}]}
    plan = recipe(photos, model="deep-pln", options=SMALL_DEEP, schedule=schedule)
    run = trainer(plan, tmp_path_factory.mktemp("runs"))
    run.run()
    return export(run)


@pytest.fixture(scope="module")
def guessing(plain: Path, photos: Path) -> Path:
    out = plain.with_name("guessing.safetensors")
    plan = RatesPlan(30, pool=4, crop=64, batch=2, width=5, hold_out=1, seed=0)
    train_rates_of(load_plugins().entropy_model("deep-pln"), plain, photos, out, plan)
    return out


def test_command(
    plain: Path, guessing: Path, photos: Path, tmp_path: Path, toolkit_main: Run
) -> None:
    out = tmp_path / "again.safetensors"
    arguments = ("--steps", 30, "--pool", 4, "--crop", 64, "--batch", 2, "--width", 5)
    status, _, said = toolkit_main(
        "train-rates", plain, "--data", photos, "--out", out, "--hold-out", 1, *arguments
    )
    assert status == 0, said
    assert "octaves" in said
    assert out.read_bytes() == guessing.read_bytes()


def codec(weights: Path) -> Codec:
    plugins = load_plugins()
    spec = plugins.codecs["deep-pln"]
    values = {"weights": str(weights), "levels": LEVELS}
    options = parse_options(spec.loaded.options_class, values, "test")
    made: Codec = spec.loaded(spec, options, plugins)
    return made


def test_files_by_weights_that_guess(plain: Path, guessing: Path) -> None:
    before, after = load_weights(plain), load_weights(guessing)
    assert before.rates is None
    assert after.rates is not None
    assert after.rates.depth == 5
    assert all((after.tensors[name] == value).all() for name, value in before.tensors.items())
    assert after.tensors.keys() == before.tensors.keys()
    assert fingerprint(plain) != fingerprint(guessing)
    pixels = picture(130, 90)
    for point in (0.0, 0.4, 1.0):
        encoded = codec(guessing).encode(pixels, point)
        shown = codec(guessing).decode(encoded.data).pixels
        np.testing.assert_array_equal(shown, encoded.reconstruction)
        double = codec(guessing).decode(encoded.data, DecodeSettings(precision="float64")).pixels
        assert np.abs(double.astype(int) - shown).max() <= 1
        other = codec(plain).encode(pixels, point).data
        assert other != encoded.data
        with pytest.raises(OtherModel):
            codec(plain).decode(encoded.data)


def test_targets_come_with_guesses(plain: Path, guessing: Path) -> None:
    pixels = picture(64, 64)
    for target in codec(guessing).targets(pixels, 0.5):  # type: ignore[attr-defined]
        assert target.guesses.shape == target.d.shape
    assert all(t.guesses is None for t in codec(plain).targets(pixels, 0.5))  # type: ignore[attr-defined]


def test_a_file_of_a_given_size(guessing: Path) -> None:
    coder = codec(guessing)
    found = coder.encode_within(picture(128, 128), 0.8, 1500)
    assert 1480 <= len(found.data) <= 1500


def test_nothing_is_overwritten_unasked(plain: Path, guessing: Path, toolkit_main: Run) -> None:
    before = guessing.read_bytes()
    status, _, said = toolkit_main("train-rates", plain, "--data", plain.parent, "--out", guessing)
    assert status == 2
    assert str(guessing) in said
    assert guessing.read_bytes() == before


def test_weights_that_are_no_ladder(photos: Path, tmp_path: Path, toolkit_main: Run) -> None:
    folder = load_plugins().entropy_model("hyperprior").weights_folder
    status, _, said = toolkit_main(
        "train-rates", find_weights("hyperprior", folder), "--data", photos,
        "--out", tmp_path / "w.safetensors",
    )  # fmt: skip
    assert status == 2
    assert "sends no samples" in said


def test_a_module_codes_with_guesses(guessing: Path) -> None:
    options = {"levels.default.layout": 3, "levels.default.nu": 8}
    module = toolkit.load_model(guessing, rate=0.5, options=options)
    assert module.predictor is not None
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.random((2, 3, 64, 96), np.float32))
    coded = module.compress(x)
    shown = module.decompress(**coded)["x_hat"]
    assert shown.shape == x.shape
    for i in range(2):
        alone = module.compress(x[i : i + 1])
        assert [level[0] for level in alone["strings"]] == [level[i] for level in coded["strings"]]
    module.predictor = None
    assert module.compress(x)["strings"] != coded["strings"]
