"""The hyperprior trained by us: it trains, and its files have the size that its loss promises."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from random_models import picture
from scipy.special import ndtr

import toolkit
from toolkit.api import decode_file
from toolkit.codec.base import DecodeSettings, as_pixels
from toolkit.format.container import BadFile, OtherModel, Stream, read_container, write_container
from toolkit.format.weights import load_weights
from toolkit.options import parse_options
from toolkit.plugin.loader import load_plugins
from toolkit.training.export import export
from toolkit.training.loop import Trainer
from toolkit.training.recipe import load_recipe
from toolkit_evaluation.data.datasets import sample_paths
from toolkit_plugins import hyperprior, pln
from toolkit_plugins.hyperprior import refinement as refining
from toolkit_plugins.hyperprior.codec import FOLDER, HyperpriorModel, factorized_tables
from toolkit_plugins.hyperprior.images import to_network
from toolkit_plugins.hyperprior.model import Hyperprior, HyperpriorOptions
from toolkit_plugins.hyperprior.parameter_check import Mismatch
from toolkit_plugins.hyperprior.refinement import LatentRefinement, Picture, Rounded

PLUGINS = load_plugins()
RECIPE = Path(hyperprior.__file__).parent / "recipes" / "hyperprior.yaml"
TINY = {
    "widths": [8, 12, 16],
    "latent_channels": 8,
    "hyper_width": 12,
    "hyper_channels": 4,
    "knots": 3,
}
STEPS = 64
SHIPPED = FOLDER / "hyperprior.safetensors"


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A trained tiny model: (trainer, its weights file)."""
    folder = tmp_path_factory.mktemp("run")
    for seed in range(6):
        Image.fromarray(picture(160, 160, seed)).save(folder / f"{seed}.png")
    changes = {
        "data.folder": str(folder),
        "data.hold_out": 1,
        "options": TINY,
        "schedule": {"steps": STEPS, "warmup": 5, "phases": [{"until": 1, "crop": 96, "batch": 4}]},
        "objective.kl_warmup": 0,
        "precision": "float32",
        "threads": 1,
    }
    recipe = load_recipe(RECIPE, changes)
    spec = PLUGINS.entropy_model("hyperprior")
    torch.manual_seed(0)
    cls = spec.loaded
    trainer = Trainer(
        cls(parse_options(cls.options_class, recipe.options, "test")), recipe, folder / "out"
    )
    losses = []
    step = trainer.log.step
    trainer.log.step = lambda *a: (losses.append(float(a[3].value.detach())), step(*a))
    trainer.run()
    return trainer, export(trainer), losses


@pytest.fixture
def build(run):
    def build(**options):
        spec = PLUGINS.codec("hyperprior")
        values = {"weights": str(run[1]), **options}
        options = parse_options(spec.loaded.options_class, values, "test")
        return spec.loaded(spec, options, PLUGINS), DecodeSettings(weights=run[1])

    return build


@pytest.mark.parametrize("part", ["", "-part2", "-part3", "-part4", "-part5", "-part6"])
def test_the_recipe_is_the_pln_s(part):
    ours = yaml.safe_load(RECIPE.with_stem(f"hyperprior{part}").read_text())
    folder = Path(pln.__file__).parent / "recipes"
    theirs = yaml.safe_load((folder / f"pln{part}.yaml").read_text())
    assert ours.pop("model") == "hyperprior"
    assert theirs.pop("model") == "pln"
    for recipe in (ours, theirs):  # how long each ran is its model card's to say
        if not part:
            recipe["schedule"].pop("minutes", None)
            recipe["schedule"].pop("steps", None)
        recipe["opens"] = recipe.pop("start", {}).get("opens")
        options = recipe.pop("options", {})
        recipe["channels"] = options.get("level1_channels") or options.get("latent_channels")
    assert ours == theirs


@pytest.mark.parametrize("linear", [False, True])
def test_sorting_the_channels_and_changes_nothing_else(linear):
    torch.manual_seed(0)
    options = HyperpriorOptions(
        widths=(4, 5, 6), latent_channels=7, hyper_width=5, hyper_channels=6, linear=linear
    )
    model = Hyperprior(options)
    if linear:
        torch.nn.init.normal_(model.synthesis.linear.gain.log_gain)
    x, rate = torch.rand(2, 3, 128, 128), torch.tensor([0.5, 0.5])

    def outcome():
        blend = model.blend(rate)
        y, z = model.analyse(x, blend)
        mean, scale = model.prior(z, blend, *y.shape[2:])
        _, p_y = model.conditional(y, scale, mean, training=False)
        return model.reconstruct(y, blend), z, (-p_y.log()).mean((0, 2, 3))

    with torch.no_grad():
        image, z, bits = outcome()
        model.sort_channels(x)
        same_image, same_z, sorted_bits = outcome()
    torch.testing.assert_close(same_image, image, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(same_z, z, rtol=1e-4, atol=1e-5)
    assert bits.tolist() != sorted_bits.tolist()
    torch.testing.assert_close(bits.sort().values, sorted_bits.sort().values, rtol=1e-4, atol=1e-5)


def test_training_lowers_the_loss(run):
    losses = run[2]
    assert len(losses) == STEPS
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])


def test_training_resumes(run):
    trainer = run[0]
    model = Hyperprior(parse_options(HyperpriorOptions, TINY, "test"))
    again = Trainer(model, trainer.recipe, trainer.out)
    assert again.step == STEPS
    state = trainer.parts.state_dict()
    assert all(torch.equal(state[key], value) for key, value in again.parts.state_dict().items())


def test_bfloat16_leaves_the_densities_in_float32():
    torch.manual_seed(0)
    model = Hyperprior(parse_options(HyperpriorOptions, TINY, "test"))
    x = torch.from_numpy(picture(96, 96).transpose(2, 0, 1)[None].astype(np.float32) / 255)
    values = []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            result = model.training_pass(x, torch.tensor([0.5]))
        assert all(b.dtype == torch.float32 for b in result.bits.values())
        sum(b.sum() for b in result.bits.values()).backward()
        values.append(float(sum(b.sum() for b in result.bits.values()).detach()))
    assert values[1] == pytest.approx(values[0], rel=0.02)


def test_tables_are_those_of_compressai_s_density():
    from toolkit_plugins.compressai.upstream import submodule

    torch.manual_seed(3)
    bottleneck = submodule("entropy_models").EntropyBottleneck(5, init_scale=4)
    for factor in bottleneck.factors:
        factor.data.normal_()
    tables = factorized_tables(bottleneck.state_dict())
    for channel, (first, counts) in enumerate(tables):
        symbols = torch.arange(first, first + len(counts)).float()
        probability, _, _ = bottleneck._likelihood(symbols.expand(5, 1, -1))
        theirs = probability[channel, 0].detach().numpy()
        assert counts / 65536 == pytest.approx(theirs, abs=2e-5)
        assert theirs.sum() > 1 - 1e-4


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_files_have_the_size_that_the_model_promises(rate, run, build):
    codec, _ = build()
    pixels = picture(160, 160, 9)
    parts = codec.encode(pixels, rate).parts
    model = run[0].ema["model"]
    x = torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    with torch.no_grad():
        blend = model.blend(torch.tensor([rate]))
        y, z = model.analyse(x, blend)
        mean, scale = model.prior(z.round(), blend, *y.shape[2:])
        p_y = model.conditional(y, scale, mean, training=False)[1]
        p_z = model.bottleneck(z.round(), training=False)[1]
        noisy = [model.training_pass(x, torch.tensor([rate])).bits for _ in range(20)]
    for name, p in (("y", p_y), ("z", p_z)):
        ideal = float(-p.log2().sum())
        assert ideal - 8 < parts[name] < 1.01 * ideal + 64
        promised = float(np.mean([float(bits[name]) for bits in noisy]))
        assert parts[name] == pytest.approx(promised, rel=0.1, abs=80)


@pytest.mark.parametrize("coding", ["quantized", "dithered", "sampled"])
@pytest.mark.parametrize("size", [(1, 1), (17, 31), (513, 511)])
def test_round_trips(size, coding, build):
    codec, how = build(coding=coding)
    for channels in (1, 3, 4):
        pixels = picture(*size, channels=channels)
        encoded = codec.encode(pixels, 0.6)
        decoded = decode_file(encoded.data, how).pixels
        assert np.array_equal(decoded, encoded.reconstruction)
        assert sum(encoded.parts.values()) == 8 * len(encoded.data)


def test_a_higher_rate_is_a_larger_file(build):
    codec, _ = build()
    sizes = [len(codec.encode(picture(160, 160), rate).data) for rate in (0, 0.25, 0.5, 0.75, 1)]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 1.5 * sizes[0]


@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_precision_of_the_synthesis(precision, build):
    codec, how = build()
    data = codec.encode(picture(96, 96), 0.5).data
    plain = decode_file(data, how).pixels.astype(float)
    other = decode_file(data, dataclasses.replace(how, precision=precision)).pixels
    error = math.sqrt(np.square(plain - other).mean())
    assert error < (0.1 if precision == "float64" else 3)


def test_mismatches_are_reported(run, build):
    codec, how = build()
    data = codec.encode(picture(96, 96), 0.5).data
    container = read_container(data)
    wrong = container.parameters[:-1] + bytes([container.parameters[-1] ^ 1])
    with pytest.raises(Mismatch):
        decode_file(write_container(dataclasses.replace(container, parameters=wrong)), how)
    with pytest.raises(OtherModel):
        decode_file(data)
    streams = (*container.streams[:1], Stream("y", container.streams[1].data[:-4]))
    cut = write_container(dataclasses.replace(container, streams=streams))
    with pytest.raises(BadFile):
        decode_file(cut, how)


def test_decoding_needs_no_compressai(run, build, tmp_path):
    codec, _ = build()
    path = tmp_path / "file.qf"
    path.write_bytes(codec.encode(picture(96, 96), 0.5).data)
    code = (
        "import sys; sys.modules['compressai'] = None\n"
        "from pathlib import Path; from toolkit.api import decode_file\n"
        "from toolkit.codec.base import DecodeSettings\n"
        f"how = DecodeSettings(weights=Path({str(run[1])!r}))\n"
        f"print(decode_file(Path({str(path)!r}).read_bytes(), how).pixels.shape)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "(96, 96, 3)"


# -- refinement of the latents of one picture --------------------------------------


def cost(codec, pixels, rate: float) -> float:
    """lambda 255^2 MSE + bits per pixel of the file: what the networks were trained to lower."""
    objective = load_weights(codec.weights).objective
    low, high = objective["lambda_min"], objective["lambda_max"]
    encoded = codec.encode(pixels, rate)
    shown = toolkit.decode(encoded.data)
    assert np.array_equal(shown, encoded.reconstruction)
    mse = float(np.mean((pixels.astype(float) - shown) ** 2))
    return low * (high / low) ** rate * mse + 8 * len(encoded.data) / pixels[:, :, 0].size


def photograph():
    path = next(p for p in sample_paths() if p.stem == "astronaut")
    return np.ascontiguousarray(np.asarray(Image.open(path))[:160, 100:292])


@pytest.mark.parametrize(
    ("rate", "options", "least"),
    [
        (0.1, {}, 0.01),
        (0.6, {}, 0.02),
        (1.0, {}, 0.04),
        (0.6, {"coding": "dithered"}, 0.02),
        (0.6, {"coding": "sampled", "sampler": {"sampler": "trellis"}}, 0.01),
    ],
)
def test_refinement_lowers_what_was_trained_for(rate, options, least):
    plain, refined, more = (
        cost(toolkit.load("hyperprior", {**options, "refinement_steps": steps}), photograph(), rate)
        for steps in (0, 4, 12)
    )
    assert refined < (1 - least) * plain
    assert more < refined * 1.01


def test_the_preset_is_four_steps_and_files_repeat():
    refined = toolkit.load("hyperprior-refined")
    assert refined.options.refinement_steps == 4
    data = refined.encode(photograph(), 0.5).data
    assert refined.encode(photograph(), 0.5).data == data
    assert toolkit.load("hyperprior").encode(photograph(), 0.5).data != data


@pytest.mark.parametrize("kind", ["flat", "noise", "stripes", "ramp"])
def test_refinement_of_odd_pictures_never_raises_the_objective(kind):
    y, x = np.mgrid[:48, :130]
    plane = {
        "flat": np.full((48, 130), 200),
        "noise": np.random.default_rng(0).integers(0, 256, (48, 130)),
        "stripes": 255 * (x // 3 % 2),
        "ramp": x + y,
    }[kind]
    pixels = np.repeat(plane.astype(np.uint8)[:, :, None], 3, axis=2)
    for rate in (0.0, 1.0):
        plain, refined = (
            cost(toolkit.load("hyperprior", {"refinement_steps": steps}), pixels, rate)
            for steps in (0, 3)
        )
        assert refined < plain * 1.01


def test_tiles_and_the_whole_picture_give_the_same_gradient(monkeypatch):
    """In float32, as bfloat16 rounds tiles otherwise."""
    model = HyperpriorModel(SHIPPED, 0.5)
    pixels = np.tile(photograph(), (2, 2, 1))
    x = torch.from_numpy(to_network(pixels, 16, 96))
    picture = Picture(
        x, pixels.shape[:2], 0.5, lambda y: model.networks.reconstruct(y, model.blend)
    )
    objective = load_weights(SHIPPED).objective
    latents = model.latents(pixels)
    y = torch.from_numpy(latents.y).float()[None]
    rate = Rounded(torch.ones_like(y), torch.zeros(()))
    found = []
    for side in (4096, 128):
        monkeypatch.setattr(refining, "TILE", side)
        refinement = LatentRefinement(4, objective, 0, picture)
        refinement.dtype = torch.float32
        found.append(refinement._evaluate(y, torch.zeros_like(y), rate))
    whole, tiled = found
    assert tiled.value == pytest.approx(whole.value, rel=1e-5)
    scale = float(whole.gradient.std())
    torch.testing.assert_close(tiled.gradient, whole.gradient, rtol=1e-3, atol=1e-3 * scale)


def test_bits_of_rounded_latents_are_those_of_the_normal_distribution():
    v = torch.tensor([0.0, 0.2, -1.0, 3.0, 40.0])
    for scale in (0.11, 0.7, 20.0):
        rate = Rounded(torch.tensor(scale), torch.zeros(()))
        mass = ndtr((v.double() + 0.5) / scale) - ndtr((v.double() - 0.5) / scale)
        expected = -np.log2(np.maximum(mass, 2.0**-24))
        found = rate.nats(v).double() / math.log(2)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_the_card_says_what_it_is(run):
    card = run[1].with_suffix(".md").read_text()
    assert json.dumps(TINY["widths"]) in card


GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "hyperprior").glob("*.qf"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files_decode_for_good(path):
    """The hash of the indices and the end of the coder vouch for the latents, exactly."""
    how = DecodeSettings(weights=path.with_name("weights.safetensors"))
    shown = decode_file(path.read_bytes(), how).pixels
    expected = as_pixels(path.with_suffix(".png"))
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).max() <= 1


def test_the_golden_files_are_there():
    assert len(GOLDEN) == 12


@pytest.mark.parametrize("rate", [0.0, 0.7])
def test_tiles_change_no_latent_and_no_pixel(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = picture(333, 405)
    model = HyperpriorModel(SHIPPED, rate)
    whole = model.latents(pixels)
    shown = model.picture(whole.y, 333, 405)
    monkeypatch.setattr("toolkit_plugins.hyperprior.codec.TILE", 96)
    tiled = model.latents(pixels)
    np.testing.assert_array_equal(tiled.z, whole.z)
    np.testing.assert_allclose(tiled.y, whole.y, atol=1e-4)
    again = model.picture(whole.y, 333, 405)
    assert np.abs(again.astype(int) - shown.astype(int)).max() <= 1
