"""Training: resumes exactly, takes what the machine has, leaves usable weights."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from training_runs import recipe, trainer

import toolkit
from toolkit.errors import InputError, UsageError
from toolkit.format.weights import load_weights
from toolkit.options import parse_options, to_mapping
from toolkit.training.data import Crops, image_files, split
from toolkit.training.export import export
from toolkit.training.objective import RateDistortion, TrainingPass
from toolkit.training.optim import MixedOptimizer
from toolkit.training.recipe import Objective, Schedule, load_recipe
from toolkit.training.schedule import RunSchedule


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


@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_stop_saves_its_last_step(
    photos: Path, tmp_path: Path, way: signal.Signals
) -> None:
    schedule = {"steps": 100000, "phases": [{"until": 1, "crop": 64, "batch": 2}]}
    plan = to_mapping(recipe(photos, schedule=schedule))
    (tmp_path / "recipe.yaml").write_text(json.dumps(plan))
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "toolkit", "train", tmp_path / "recipe.yaml", "--out", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # whoever runs the tests in the background has them ignore interrupts, and children too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert "held out" in process.stdout.readline()
    time.sleep(2)
    process.send_signal(way)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    assert f"interrupted at step {state['step']}" in errors
    counts = {int(s["step"]) for s in state["optimizer"][0]["state"].values()}
    assert counts == {state["step"] - state["guard"]["skipped"]}


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


def test_weights_say_what_laplace_scale_was_learned(photos: Path, tmp_path: Path) -> None:
    scale = {"laplace_scale": 0.5, "learned_scale": True}
    run = trainer(
        recipe(photos, objective={"distortion": "mae", "kl_warmup": 0, **scale}), tmp_path
    )
    run.run()
    weights = export(run)
    objective = load_weights(weights).objective
    assert objective["learned_scale"]
    assert 0 < objective["laplace_scale"] < 0.5
    assert f'"laplace_scale": {objective["laplace_scale"]}' in (tmp_path / "pln.md").read_text()
    pixels = np.asarray(Image.open(photos / "0.png"))
    codecs = (
        toolkit.load("pln-fast", {"weights": str(weights), "refinement_steps": n}) for n in (0, 2)
    )
    plain, refined = (codec.encode(pixels, 0.5) for codec in codecs)
    assert plain.data != refined.data


def test_a_checkpoint_of_another_model_is_refused(photos: Path, tmp_path: Path) -> None:
    trainer(recipe(photos), tmp_path).save()
    other = recipe(photos, objective={"distortion": "mae"})
    with pytest.raises(UsageError, match="another model or objective"):
        trainer(other, tmp_path)
    for nonsense in ([1], {"recipe": "{}"}, {"recipe": json.dumps({"model": 3})}, b"nonsense"):
        torch.save(nonsense, tmp_path / "checkpoint.pt")
        with pytest.raises(InputError, match="not a checkpoint"):
            trainer(recipe(photos), tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="not a checkpoint"):
        trainer(recipe(photos), tmp_path)


def test_the_training_pass_is_compiled_on_demand(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            calls.append(len(arguments))
            return function(*arguments)

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    for compile in (False, True):
        run = trainer(recipe(photos, compile=compile), tmp_path / str(compile))
        run.train_step()
        assert bool(calls) == compile


@pytest.mark.parametrize(
    "options",
    [
        {"distortion": "mse"},
        {"distortion": "mae"},
        {"distortion": "mae", "laplace_scale": 0.05, "learned_scale": True},
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
    given = {"distortion": "mae", "laplace_scale": 0.01, "learned_scale": True}
    objective = RateDistortion(parse_options(Objective, given, "test"))
    x = torch.zeros(1, 3, 96, 96)
    result = TrainingPass(torch.full_like(x, 0.05), {"level1": torch.zeros(1)})
    optimizer = torch.optim.Adam([objective.log_gamma], lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        objective(x, torch.tensor([0.5]), result, 5000).value.backward()
        optimizer.step()
    assert objective.learned().laplace_scale == pytest.approx(0.05, rel=0.02)
    assert objective.options.laplace_scale == 0.01


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
    scales = [RunSchedule(schedule).learning_rate_scale(step, 0) for step in range(101)]
    assert scales[0] == pytest.approx(0.1)
    assert scales[20] == 1
    assert scales[100] == pytest.approx(schedule.floor)
    assert scales[30:] == sorted(scales[30:], reverse=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: pln\n", "data"),
        ("model: pln\ndata: {folder: x}\nstep: 3\n", "no option 'step'"),
        ("model: pln\ndata: {folder: x}\nschedule: {warmup: 3}\n", "cosine needs steps"),
        ("model: pln\ndata: {folder: x}\nobjective: {lambda_min: 2}\n", "above lambda_max"),
        ("model: pln\ndata: {folder: x}\nobjective: {learned_scale: true}\n", "to begin with"),
        ("model: pln\ndata: {folder: x}\nobjective: {laplace_scale: 0.1}\n", "goes with"),
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
    schedule = {"steps": 4, "phases": [{"until": 1, "crop": 96, "batch": 4}]}
    plan = to_mapping(recipe(photos, schedule=schedule))
    (tmp_path / "recipe.yaml").write_text(json.dumps(plan))
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "toolkit",
        "train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    branch = ["--branch", str(tmp_path / "branch"), "--decay-steps", "2"]
    for more, out, steps in (([], "run", 4), (branch, "branch", 6)):
        subprocess.run([*command, *more], check=True, timeout=300)
        state = torch.load(tmp_path / out / "checkpoint.pt", weights_only=True)
        assert state["step"] == steps
        assert (tmp_path / out / "pln.safetensors").exists()


@pytest.mark.parametrize("kernels", ["muon", "adam"])
def test_weights_that_the_loss_does_not_depend_on_stay(
    photos: Path, tmp_path: Path, kernels: str
) -> None:
    plan = recipe(photos, optimizer={"kernels": kernels})
    run = trainer(plan, tmp_path)
    idle = torch.nn.Conv2d(2, 2, 3)
    before = idle.weight.detach().clone()
    run.parts["model"].idle = idle
    run.optimizer = MixedOptimizer(run.parts, plan.optimizer)
    run.train_step()
    assert torch.equal(idle.weight, before)
