"""Recipes that ship are found by name, and those of the thesis train what it prints."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from training_runs import SMALL, trainer

import toolkit
from toolkit.errors import InputError, UnknownName, UsageError
from toolkit.options import parse_options, to_mapping
from toolkit.plugin.loader import Plugins, load_plugins
from toolkit.training.device import choose_precision
from toolkit.training.export import export
from toolkit.training.objective import RateDistortion, TrainingPass
from toolkit.training.patches import Patches
from toolkit.training.recipe import Objective, Recipe, load_recipe
from toolkit.training.shipped import find_recipe, shipped_recipes

PLUGIN = """
from toolkit import hookimpl

@hookimpl
def toolkit_samplers():
    return ()
"""


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return load_plugins()


def objective(**options: Any) -> RateDistortion:
    return RateDistortion(parse_options(Objective, {"distortion": "mae", **options}, "test"))


# -- finding them --------------------------------------------------------------


def test_every_recipe_that_ships_is_found_and_can_be_read(plugins: Plugins) -> None:
    shipped = shipped_recipes(plugins)
    assert {"pln", "hyperprior", "thesis-pln", "thesis-gamma-pln", "thesis-vae"} <= shipped.keys()
    for name, (path,) in shipped.items():
        assert find_recipe(name, plugins) == path
        recipe = load_recipe(path)
        assert f"toolkit train {name}" in path.read_text()
        assert recipe.model in plugins.entropy_models


def test_recipes_beside_a_plugin_file_are_found(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    (tmp_path / "recipes").mkdir()
    for name in ("mine", "pln"):
        (tmp_path / "recipes" / f"{name}.yaml").write_text("model: mine\ndata: {folder: x}\n")
    plugins = load_plugins([tmp_path / "mine.py"])
    assert find_recipe("mine", plugins) == tmp_path / "recipes" / "mine.yaml"
    with pytest.raises(UsageError, match="several recipes are called 'pln'; give the file: /"):
        find_recipe("pln", plugins)


def test_a_file_goes_before_a_name(
    plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownName, match="nearest: thesis-pln"):
        find_recipe("thesis-pl", plugins)
    assert find_recipe("pln.yaml", plugins) == Path("pln.yaml")  # said to be missing on reading
    Path("pln").touch()
    assert find_recipe("pln", plugins) == Path("pln")


def test_the_program_lists_them(toolkit_main: Callable[..., tuple[int, str, str]]) -> None:
    status, out, _ = toolkit_main("train", "--list")
    assert status == 0
    (line,) = (line for line in out.splitlines() if line.startswith("thesis-vae"))
    assert line.split(maxsplit=1)[1] == "vae: The thesis's VAE, the baseline of section 3.2.1"


# -- the thesis's loss ---------------------------------------------------------


def test_beta_says_what_the_thesis_s_does() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 3, 64, 64)
    x_hat, bits = x + 0.1 * torch.randn_like(x), torch.tensor([500.0])
    result, rate = TrainingPass(x_hat, {"level1": bits}), torch.tensor([0.3])
    distance, kl = float((x - x_hat).abs().sum()), float(bits) * math.log(2)
    plain = objective(beta=0.3, balance=1)(x, rate, result, 5000)
    assert float(plain.value) == pytest.approx((distance + 0.3 * kl) / 64**2, rel=1e-5)

    gamma, given = 0.2, {"beta": 3, "balance": 1, "laplace_scale": 0.2, "learned_scale": True}
    corrected = objective(**given)(x, rate, result, 5000)
    nats = distance / gamma + x.numel() * math.log(2 * gamma) + 3 * kl
    assert float(corrected.value.detach()) == pytest.approx(nats / math.log(2) / 64**2, rel=1e-5)
    printed = objective(**given, normaliser=False, least_scale=0.01)(x, rate, result, 5000)
    nats = distance + gamma * 3 * kl
    assert float(printed.value.detach()) == pytest.approx(nats / math.log(2) / 64**2, rel=1e-5)


def test_the_weight_of_the_rate_grows_linearly() -> None:
    x = torch.zeros(1, 3, 64, 64)
    result = TrainingPass(x, {"level1": torch.tensor([4096.0])})
    loss = objective(beta=1, balance=1, kl_warmup=100)
    values = [float(loss(x, torch.zeros(1), result, t).value) for t in (0, 25, 100, 300)]
    assert values == pytest.approx([0, 0.25 * math.log(2), math.log(2), math.log(2)])


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ({}, 1000),
        ({"start": {"weights": "w.safetensors"}}, 0),
        ({"objective": {"kl_warmup": 7}}, 7),
    ],
)
def test_the_growth_is_for_random_weights(given: dict[str, Any], steps: int) -> None:
    values = {"model": "pln", "data": {"folder": "p"}, **given}
    assert parse_options(Recipe, values, "test").objective.kl_warmup == steps


def test_the_printed_loss_drives_gamma_to_gamma_inf_and_no_further() -> None:
    given = {"beta": 1, "laplace_scale": 1.0, "learned_scale": True, "least_scale": 0.3}
    loss = objective(**given, normaliser=False, balance=1, kl_warmup=0)
    x = torch.zeros(1, 3, 64, 64)
    result = TrainingPass(x + 0.5, {"level1": torch.tensor([4096.0])})
    optimizer = torch.optim.Adam([loss.log_gamma], lr=0.1)
    for _ in range(30):
        optimizer.zero_grad()
        loss(x, torch.zeros(1), result, 1).value.backward()
        optimizer.step()
    assert float(loss.log_gamma.detach()) < math.log(0.3)
    assert loss.learned().laplace_scale == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distortion": "mse", "beta": 1}, "beta goes with distortion mae"),
        ({"beta": 1, "lambda_min": 0.1, "lambda_max": 0.2}, "give one"),
        ({"least_scale": 0.1}, "least_scale goes with learned_scale"),
        (
            {"laplace_scale": 1.0, "learned_scale": True, "normaliser": False},
            "needs a least_scale",
        ),
    ],
)
def test_losses_that_cannot_be_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        objective(**options)


def test_one_lambda_is_a_range_too() -> None:
    loss = RateDistortion(parse_options(Objective, {"lambda_min": 0.01, "lambda_max": 0.01}, "t"))
    assert loss.lambdas(torch.tensor([0.0, 0.4, 1.0])).tolist() == pytest.approx([0.01] * 3)
    learned = parse_options(Objective, {"distortion": "mae", "beta": 0.1}, "t")
    assert parse_options(Objective, to_mapping(learned), "t") == learned


# -- its patches ---------------------------------------------------------------


def test_patches_are_as_many_as_the_thesis_s_rule_says(tmp_path: Path) -> None:
    sizes = [(130, 200), (64, 64), (63, 300)]
    for i, (w, h) in enumerate(sizes):
        Image.fromarray(np.full((h, w, 3), i, np.uint8)).save(tmp_path / f"{i}.png")
    files = sorted(tmp_path.glob("*.png"))
    patches = Patches(files, per_tile=5, size=64, memory_mb=1, seed=1)
    counts = np.bincount(patches.places[:, 0])
    assert counts.tolist() == [5 * 2 * 3, 5]  # an image smaller than a patch has none
    epoch = np.concatenate([patches.batch(step, 64, 7)[:, 0, 0, 0] for step in range(5)])
    assert np.bincount(epoch).tolist() == [30, 5]
    with pytest.raises(InputError, match="no image as large"):
        Patches(files, per_tile=5, size=1024, memory_mb=1, seed=1)


def test_patches_are_a_function_of_the_step_whatever_memory_holds(photos: Path) -> None:
    files = sorted(photos.glob("*.png"))
    large = Patches(files, per_tile=3, size=64, memory_mb=64, seed=1)
    small = Patches(files, per_tile=3, size=64, memory_mb=64, seed=1)
    small.capacity = 1
    for step in (9, 2, 11):
        np.testing.assert_array_equal(large.batch(step, 64, 4), small.batch(step, 64, 4))
    assert len(small.images) == 1
    assert len(large.images) > 1
    numbers = np.concatenate([large._numbers(step, 4) for step in range(9)])
    assert sorted(numbers) == list(range(36))  # an epoch: each patch once
    assert (large._numbers(9, 4) != large._numbers(0, 4)).any()  # in another order next time


# -- its runs ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["thesis-pln", "thesis-gamma-pln", "thesis-vae"])
def test_the_thesis_s_recipes_train_and_code(
    name: str, plugins: Plugins, photos: Path, tmp_path: Path
) -> None:
    own = load_recipe(find_recipe(name, plugins))
    small = {key: SMALL[key] for key in own.options if key in SMALL}
    changes = {
        "data.folder": str(photos),
        "data.hold_out": 1,
        "objective.beta": 0.3,
        "options": {**own.options, **small},
        "schedule.phases": [{"crop": 96, "batch": 2}],
        "schedule.steps": 6,
        "precision": "float32",
        "threads": 1,
    }
    plan = load_recipe(find_recipe(name, plugins), changes)
    run = trainer(plan, tmp_path)
    for _ in range(3):
        run.train_step()
    run.save()
    run = trainer(plan, tmp_path)
    assert run.step == 3
    run.run()
    assert len(run.validate()) == 1  # one beta, one point
    after, averaged = run.parts.state_dict(), run.ema.state_dict()
    assert all(torch.allclose(after[key], averaged[key], atol=1e-6) for key in after)
    codec = toolkit.load(f"{own.model}-isgs", {"weights": str(export(run))})
    pixels = np.asarray(Image.open(photos / "0.png"))
    encoded = codec.encode(pixels, 0.5)
    assert encoded.reconstruction is not None
    np.testing.assert_array_equal(codec.decode(encoded.data).pixels, encoded.reconstruction)


@pytest.mark.parametrize(
    ("name", "betas"),
    [
        ("thesis-pln", "1 0.3 0.1 0.03 0.01"),
        ("thesis-vae", "1 0.3 0.1 0.03 0.01"),
        ("thesis-gamma-pln", "10 3 1 0.3 0.1"),
    ],
)
def test_the_thesis_s_recipes_have_its_settings(name: str, betas: str, plugins: Plugins) -> None:
    path = find_recipe(name, plugins)
    assert f"for beta in {betas}; do" in path.read_text()
    plan = load_recipe(path)
    assert plan.options["widths"] == [192, 192, 192]
    assert (plan.options["knots"], plan.options["output"]) == (1, "sigmoid")
    assert (plan.schedule.steps, plan.schedule.decay, plan.schedule.every) == (200_000, 0.96, 1500)
    assert [(phase.crop, phase.batch) for phase in plan.schedule.phases] == [(256, 8)]
    assert (plan.optimizer.kernels, plan.optimizer.other_lr) == ("adam", 3e-5)
    assert plan.objective.lambda_min == plan.objective.lambda_max
    shape = "constant" if name == "thesis-gamma-pln" else "exponential"
    assert plan.schedule.shape == shape


# -- the machine ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "dtype"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_f": True, "avx512_bf16": False}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_precision_is_what_the_processor_has_instructions_for(
    features: dict[str, bool],
    dtype: torch.dtype,
    plugins: Plugins,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    plan = load_recipe(find_recipe("pln", plugins))
    assert choose_precision(plan, torch.device("cpu")) == dtype
    assert choose_precision(plan, torch.device("cuda")) == torch.bfloat16
