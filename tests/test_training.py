"""Training: resumes exactly, takes what the machine has, leaves usable weights."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import toolkit
from toolkit.errors import InputError, MissingError, UsageError
from toolkit.options import parse_options, to_mapping
from toolkit.training.data import Crops, image_files, split
from toolkit.training.export import export
from toolkit.training.loop import Trainer
from toolkit.training.objective import RateDistortion, TrainingPass
from toolkit.training.optim import learning_rate_scale
from toolkit.training.recipe import Objective, Recipe, Schedule, load_recipe
from toolkit.weights import load_weights
from toolkit_plugins.compressai.hyperprior import Hyperprior
from toolkit_plugins.pln.model import PLN, PLNOptions, kl_bits, product_of_gaussians

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


def said_of(kind: str) -> dict[str, str]:
    """Metadata of a weights file."""
    return {"model": kind, "options": "{}", "objective": "{}"}


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
    assert counts == {state["step"]}


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
    codecs = (toolkit.load("pln-fast", {"weights": str(weights), "effort": n}) for n in (0, 2))
    plain, refined = (codec.encode(pixels, 0.5) for codec in codecs)
    assert plain.data != refined.data


def test_more_channels_begin_where_fewer_ended(photos: Path, tmp_path: Path) -> None:
    narrow = trainer(recipe(photos), tmp_path / "narrow")
    narrow.run()
    start = {"weights": str(export(narrow)), "channels": 6}
    options = {**SMALL, "level1_channels": 10}
    wide = trainer(recipe(photos, options=options, start=start), tmp_path / "wide")
    before = PLN(PLNOptions(**SMALL))
    before.load_state_dict(load_file(start["weights"]), strict=True)
    after = wide.parts["model"]
    x, rate = torch.rand(1, 3, 96, 96), torch.tensor([0.3])
    blend = before.blend(rate)
    with torch.no_grad():
        means, _ = before.encode1(x, blend)
        wider, _ = after.encode1(x, blend)
        assert torch.allclose(wider[:, :6], means[:, :6], atol=1e-5)
        # the new channels aren't looked at yet, and the idle old ones no more
        means[:, 6:] = 0
        for f in (PLN.reconstruct, PLN.posterior2):
            old, new = f(before, means, blend), f(after, wider, blend)
            old, new = (old, new) if isinstance(old, torch.Tensor) else (old[0], new[0])
            assert torch.allclose(new, old, atol=1e-4)
    wide.train_step()
    decoder = after.synthesis1.ups[0].conv.weight
    assert float(decoder[:, 6:].detach().abs().max()) > 0  # training finds them
    wide.save()
    Path(start["weights"]).unlink()
    again = trainer(recipe(photos, options=options, start=start), tmp_path / "wide")
    assert again.step == 1  # a run that goes on needs no start


def grown(photos: Path, folder: Path, kind: str, *channels: int) -> list[Any]:
    """A model of 8 channels, and ones of more on linear paths, each begun with the one before."""
    cls, small, name = PLN, SMALL, "level1_channels"
    if kind == "hyperprior":
        cls, name = Hyperprior, "latent_channels"
        small = {"widths": [8, 8, 8], "latent_channels": 8, "hyper_width": 8, "hyper_channels": 4}
    torch.manual_seed(0)
    models = [cls(parse_options(cls.options_class, small, "test"))]
    for count in channels:
        path = folder / "narrow.safetensors"
        save_file(models[-1].state_dict(), path, metadata=said_of(kind))
        load_weights.cache_clear()
        options = {**small, name: count, "linear": True}
        start = {"weights": str(path), "opens": 0.8}
        models.append(cls(parse_options(cls.options_class, options, "test")))
        run = recipe(photos, model=kind, options=options, start=start)
        Trainer(models[-1], run, folder / str(count))
    return models


@pytest.mark.parametrize("kind", ["pln", "hyperprior"])
def test_new_channels_on_linear_paths_show_what_was_missing(
    photos: Path, tmp_path: Path, kind: str
) -> None:
    models = grown(photos, tmp_path, kind, 16, 24)
    x = torch.from_numpy(np.stack([np.asarray(Image.open(f)) for f in photos.glob("*.png")]))
    x = x.permute(0, 3, 1, 2)[:, :, 12:108, 32:128].float() / 255
    errors = []
    with torch.no_grad():
        for model in models:
            blend = model.blend(torch.ones(len(x)))
            latents = (model.encode1 if kind == "pln" else model.analyse)(x, blend)[0]
            errors.append(float((model.reconstruct(latents, blend) - x).square().mean()))
            assert all(
                b.isfinite().all() for b in model.training_pass(x, blend[:, 0]).bits.values()
            )
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] < 0.97 * errors[1]


@pytest.mark.parametrize("kind", ["pln", "hyperprior"])
def test_new_channels_carry_nothing_below_the_rate_where_they_open(
    photos: Path, tmp_path: Path, kind: str
) -> None:
    narrow, _, wide = grown(photos, tmp_path, kind, 10, 12)
    x = torch.rand(1, 3, 96, 96)
    change = torch.zeros(1, 12, 1, 1)
    change[:, 8:] = 1
    for rate, shut in ((0.5, True), (1.0, False)):
        blend = wide.blend(torch.tensor([rate]))
        with torch.no_grad():
            if kind == "pln":
                latents, log_scale = wide.encode1(x, blend)
                bits = kl_bits(*product_of_gaussians(latents, log_scale, *(0 * latents,) * 2)[:2])
                idle = float(bits[:, 8:].mean()) < 1e-4
                before = narrow.encode1(x, blend)[0]
            else:
                latents, before = (model.analyse(x, blend)[0] for model in (wide, narrow))
                idle = float(latents[:, 8:].abs().max()) < 0.5
            image = wide.reconstruct(latents + change, blend)
            same = torch.allclose(image, narrow.reconstruct(before, blend), atol=1e-3)
        assert idle == shut
        assert same == shut


def test_gains_stay_with_their_lambda(photos: Path, tmp_path: Path) -> None:
    model = PLN(PLNOptions(**SMALL))
    for name, tensor in model.state_dict().items():
        if name.endswith("log_gain"):
            torch.nn.init.normal_(tensor)
    trained = {"lambda_min": 0.01, "lambda_max": 0.08}
    said = {**said_of("pln"), "objective": json.dumps(trained)}
    save_file(model.state_dict(), tmp_path / "narrow.safetensors", metadata=said)
    objective = {"lambda_min": 0.005, "lambda_max": 0.04, "kl_warmup": 0}
    start = {"weights": str(tmp_path / "narrow.safetensors")}
    options = {**SMALL, "knots": 7}
    wide = trainer(
        recipe(photos, options=options, objective=objective, start=start), tmp_path / "w"
    )
    after = wide.parts["model"]
    x = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        ours = after.encode1(x, after.blend(torch.tensor([2 / 3])))
        theirs = model.encode1(x, model.blend(torch.tensor([1 / 3])))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (SMALL | {"widths": [8, 8, 6]}, "too large for this model"),
        (SMALL, "another kind of model"),
    ],
)
def test_weights_that_cannot_be_begun_with_are_refused(
    photos: Path, tmp_path: Path, model: dict[str, Any], message: str
) -> None:
    state = PLN(PLNOptions(**SMALL)).state_dict()
    if "kind" in message:
        state["more"] = torch.zeros(1)
    path = tmp_path / "weights.safetensors"
    save_file(state, path, metadata=said_of("pln"))
    with pytest.raises(InputError, match=message):
        trainer(recipe(photos, options=model, start={"weights": str(path)}), tmp_path / "run")


def test_files_that_cannot_be_begun_with_are_refused(photos: Path, tmp_path: Path) -> None:
    def begin(path: Path) -> None:
        trainer(recipe(photos, start={"weights": str(path)}), tmp_path / "run")

    other = tmp_path / "other.safetensors"
    save_file(PLN(PLNOptions(**SMALL)).state_dict(), other, metadata=said_of("hyperprior"))
    with pytest.raises(InputError, match=r"other\.safetensors: .* kind of model \(hyperprior\)"):
        begin(other)
    (tmp_path / "text.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"text\.safetensors: not a weights file"):
        begin(tmp_path / "text.safetensors")
    with pytest.raises(MissingError, match=r"none\.safetensors"):
        begin(tmp_path / "none.safetensors")


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
    subprocess.run(command, check=True, timeout=300)
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 4
    assert (tmp_path / "run" / "pln.safetensors").exists()
