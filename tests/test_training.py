"""Training: resumes exactly, takes what the machine has, leaves usable weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import toolkit
from toolkit.errors import InputError, UsageError
from toolkit.options import parse_options
from toolkit.training.data import Crops, image_files, split
from toolkit.training.export import export
from toolkit.training.loop import Trainer
from toolkit.training.objective import RateDistortion, TrainingPass
from toolkit.training.optim import learning_rate_scale
from toolkit.training.recipe import Objective, Recipe, Schedule, load_recipe
from toolkit_plugins.pln.model import PLN, PLNOptions

SMALL = {"widths": [8, 8, 8], "level1_channels": 8, "level2_width": 8, "level2_channels": 4}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(6):
        noise = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        noise.resize((160, 120), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


def recipe(photos: Path, **changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "model": "pln",
        "options": SMALL,
        "data": {"folder": str(photos), "hold_out": 1},
        "schedule": {"steps": 12, "warmup": 2, "phases": [{"until": 1, "crop": 96, "batch": 2}]},
        "objective": {"kl_warmup": 3},
        "threads": 1,
        "precision": "float32",
    }
    return parse_options(Recipe, {**values, **changes}, "test")


def trainer(plan: Recipe, out: Path) -> Trainer:
    torch.manual_seed(plan.seed)
    return Trainer(PLN(parse_options(PLNOptions, plan.options, "test")), plan, out)


def test_a_stopped_run_goes_on_exactly(photos: Path, tmp_path: Path) -> None:
    plan = recipe(photos)
    whole = trainer(plan, tmp_path / "whole")
    whole.run()
    first = trainer(plan, tmp_path / "parts")
    for _ in range(5):
        first.train_step()
    first.save()
    second = trainer(plan, tmp_path / "parts")
    assert second.step == 5
    second.run()
    for key, value in whole.parts.state_dict().items():
        assert torch.equal(value, second.parts.state_dict()[key]), key
    for key, value in whole.ema.state_dict().items():
        assert torch.equal(value, second.ema.state_dict()[key]), key


def test_training_learns_and_exports_weights_that_code(photos: Path, tmp_path: Path) -> None:
    schedule = {"steps": 60, "warmup": 5, "phases": [{"until": 1, "crop": 96, "batch": 2}]}
    plan = recipe(photos, schedule=schedule)
    run = trainer(plan, tmp_path)
    before = run.validate()
    run.run()
    after = run.validate()
    loss = [r["psnr"] - 20 * r["bpp"] for r in (before[2], after[2])]
    assert loss[1] > loss[0] + 1
    weights = export(run)
    codec = toolkit.load("pln-isgs", {"weights": str(weights)})
    pixels = np.asarray(Image.open(photos / "0.png"))
    encoded = codec.encode(pixels, 0.5)
    np.testing.assert_array_equal(codec.decode(encoded.data).pixels, encoded.reconstruction)
    card = (tmp_path / "pln.md").read_text()
    assert "| steps | 60 |" in card
    assert (tmp_path / "curves.png").stat().st_size > 1000
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert "validation" in kinds


def test_a_checkpoint_of_another_model_is_refused(photos: Path, tmp_path: Path) -> None:
    trainer(recipe(photos), tmp_path).save()
    other = recipe(photos, objective={"distortion": "mae"})
    with pytest.raises(UsageError, match="another model or objective"):
        trainer(other, tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="not a checkpoint"):
        trainer(recipe(photos), tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"distortion": "mse"},
        {"distortion": "mae"},
        {"distortion": "mae", "learned_scale": True},
        {"distortion": "ms-ssim"},
    ],
)
def test_every_objective_has_finite_gradients(options: dict[str, Any]) -> None:
    objective = RateDistortion(parse_options(Objective, options, "test"))
    torch.manual_seed(0)
    x = torch.rand(2, 3, 96, 96)
    x_hat = (x + 0.1 * torch.randn_like(x)).requires_grad_()
    bits = torch.tensor([100.0, 200.0], requires_grad=True)
    rate = torch.tensor([0.2, 0.9])
    loss = objective(x, rate, TrainingPass(x_hat, {"level1": bits}), step=5000)
    loss.value.backward()
    assert x_hat.grad is not None
    assert bool(torch.isfinite(x_hat.grad).all())
    assert bits.grad is not None
    assert bool((bits.grad > 0).all())
    assert loss.bpp == pytest.approx(150 / 96**2)


def test_the_learned_scale_settles_at_the_mean_absolute_error() -> None:
    options = parse_options(Objective, {"distortion": "mae", "learned_scale": True}, "test")
    objective = RateDistortion(options)
    x = torch.zeros(1, 3, 96, 96)
    result = TrainingPass(torch.full_like(x, 0.05), {"level1": torch.zeros(1)})
    optimizer = torch.optim.Adam([objective.log_gamma], lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        objective(x, torch.tensor([0.5]), result, 5000).value.backward()
        optimizer.step()
    assert float(objective.log_gamma.detach().exp()) == pytest.approx(0.05, rel=0.02)


def test_batches_are_a_function_of_the_step(photos: Path) -> None:
    files = image_files(photos)
    every = Crops(files, memory_mb=64, seed=1, least=96)
    again = Crops(files, memory_mb=64, seed=1, least=96)
    again.batch(0, 96, 2)
    np.testing.assert_array_equal(every.batch(7, 96, 4), again.batch(7, 96, 4))
    assert (every.batch(7, 96, 4) != every.batch(8, 96, 4)).any()


def test_a_folder_larger_than_memory_passes_through(photos: Path) -> None:
    files = image_files(photos)
    pool = Crops(files, memory_mb=1, seed=1, least=96)
    pool.capacity, pool.pool, pool.holds = 2, pool.pool[:2], [0, 1]
    seen = set()
    for step in range(0, 200, Crops.refresh):
        pool.batch(step, 96, 1)
        seen |= set(pool.holds)
    assert seen == set(range(len(files)))
    jump = Crops(files, memory_mb=1, seed=1, least=96)
    jump.capacity, jump.pool, jump.holds = 2, jump.pool[:2], [0, 1]
    jump.batch(190, 96, 1)
    assert jump.holds == pool.holds


def test_split_and_schedule() -> None:
    files = [Path(f"{i}.png") for i in range(10)]
    train, held = split(files, 3)
    assert len(held) == 3
    assert sorted(train + held, key=files.index) == files
    with pytest.raises(InputError):
        split(files, 10)
    schedule = parse_options(Schedule, {"steps": 100, "warmup": 10, "flat": 0.3}, "test")
    scales = [learning_rate_scale(schedule, step, step / 100) for step in range(101)]
    assert scales[0] == pytest.approx(0.1)
    assert scales[20] == 1
    assert scales[100] == pytest.approx(schedule.floor)
    assert scales[30:] == sorted(scales[30:], reverse=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: pln\n", "data"),
        ("model: pln\ndata: {folder: x}\nstep: 3\n", "no option 'step'"),
        ("model: pln\ndata: {folder: x}\nschedule: {warmup: 3}\n", "needs steps"),
        ("model: pln\ndata: {folder: x}\nobjective: {lambda_min: 2}\n", "above lambda_max"),
        ("- 3\n", "mapping"),
        ("a: [\n", "recipe.yaml"),
    ],
)
def test_bad_recipes_are_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises((UsageError, InputError), match=message):
        load_recipe(path)


@pytest.mark.slow
def test_two_processes_train_as_one(photos: Path, tmp_path: Path) -> None:
    plan = {
        "model": "pln",
        "options": SMALL,
        "threads": 1,
        "precision": "float32",
        "data": {"folder": str(photos), "hold_out": 1},
        "schedule": {"steps": 4, "phases": [{"until": 1, "crop": 96, "batch": 4}]},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(plan))
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "toolkit",
        "train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=300)
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 4
    assert (tmp_path / "run" / "pln.safetensors").exists()
