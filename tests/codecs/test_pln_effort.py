"""Encoder-side refinement of the PLN's posterior: ``effort`` of codec ``pln``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import toolkit
from toolkit.cli import main
from toolkit.codec import search
from toolkit.codec.base import Codec
from toolkit.errors import UsageError
from toolkit.format.weights import load_weights
from toolkit.sampling.ladder import sample_ladder
from toolkit_evaluation.data.datasets import sample_paths
from toolkit_plugins.pln import effort as refining
from toolkit_plugins.pln.codec import FOLDER, load_model
from toolkit_plugins.pln.effort import Effort, Evaluation, Refinement

Pixels = NDArray[np.uint8]
WEIGHTS = (FOLDER / "pln.safetensors").resolve()


def photograph(height: int = 160, width: int = 192) -> Pixels:
    """A piece of a photograph that ships inside scikit-image."""
    path = next(p for p in sample_paths() if p.stem == "astronaut")
    return np.ascontiguousarray(np.asarray(Image.open(path))[:height, 100 : 100 + width])


def codec(**options: Any) -> Codec:
    return toolkit.load("pln-fast", options)


def cost(codec: Codec, pixels: Pixels, rate: float) -> float:
    """lambda 255^2 MSE + bits per pixel of the file: what the networks were trained to lower."""
    objective = load_weights(WEIGHTS).objective
    low, high = objective["lambda_min"], objective["lambda_max"]
    encoded = codec.encode(pixels, rate)
    shown = toolkit.decode(encoded.data)
    mse = float(np.mean((pixels.astype(float) - shown) ** 2))
    bpp = 8 * len(encoded.data) / (pixels.shape[0] * pixels.shape[1])
    return float(low * (high / low) ** rate * mse + bpp)


def refinement(
    pixels: Pixels, rate: float = 0.5, steps: int = 4, **objective: Any
) -> tuple[Refinement, torch.Tensor]:
    """A refinement, and the picture that it is of, (1, 3, H, W)."""
    x = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 255)[None]
    effort = Effort(steps, {**load_weights(WEIGHTS).objective, **objective}, 0)
    model = load_model(WEIGHTS, "float32").model
    return effort.refinement(model, x, pixels.shape[:2], rate), x


# -- files ------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "seeds", "most"), [(0.2, 6, 0.995), (0.9, 1, 0.97)])
def test_files_cost_less_the_more_effort_is_made(rate: float, seeds: int, most: float) -> None:
    pixels = photograph(128, 160)
    # one sample's cost varies by a percent, which is what effort brings at a low rate
    none, some = (
        sum(cost(codec(effort=n, seed=seed), pixels, rate) for seed in range(seeds)) for n in (0, 5)
    )
    assert some < most * none


def test_no_effort_is_the_default_and_changes_nothing() -> None:
    pixels = photograph(96, 96)
    assert codec(effort=0).encode(pixels, 0.5).data == codec().encode(pixels, 0.5).data


def test_effort_repeats_to_the_byte_and_is_not_in_the_file() -> None:
    pixels = photograph(100, 90)
    first, second = (codec(effort=3).encode(pixels, 0.5) for _ in range(2))
    assert first.data == second.data != codec().encode(pixels, 0.5).data
    np.testing.assert_array_equal(toolkit.decode(first.data), first.reconstruction)
    assert sum(first.parts.values()) == 8 * len(first.data)


@pytest.mark.parametrize("shape", [(1, 1, 3), (33, 97, 1), (40, 129, 4)])
@pytest.mark.parametrize("steps", [1, 2])
def test_any_size_and_mode_round_trips(shape: tuple[int, int, int], steps: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    encoded = codec(effort=steps).encode(pixels, 1.0)
    np.testing.assert_array_equal(toolkit.decode(encoded.data), encoded.reconstruction)


def test_a_file_size_is_hit_with_effort() -> None:
    pixels = photograph(96, 128)
    size = len(codec().encode(pixels, 0.5).data)
    encoded = codec(effort=2).encode_within(pixels, 0.5, size)
    assert size - 1 <= len(encoded.data) <= size


def test_the_theoretical_point_is_refined_as_well() -> None:
    pixels = photograph(128, 128)
    without, with_effort = (codec(effort=n).theoretical(pixels, 0.7) for n in (0, 4))
    assert without is not None
    assert with_effort is not None
    assert without.bits != with_effort.bits
    errors = [np.mean((pixels.astype(float) - t.pixels) ** 2) for t in (without, with_effort)]
    assert errors[1] < errors[0]


# -- steps ------------------------------------------------------------------------


def level1_sample(refined: Any, height: int, width: int) -> torch.Tensor:
    """Noise in the shape of z1, (1, F, height, width)."""
    shape = (1, refined.model.options.level1_channels, height, width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_gradients_in_tiles_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = photograph(144, 160)
    whole, _ = refinement(pixels)
    whole.dtype = torch.float32
    z1 = level1_sample(whole, 9, 10)
    value, gradient = whole._distortion(z1, True)
    monkeypatch.setattr(refining, "TILE", 4)
    tiled_value, tiled_gradient = whole._distortion(z1, True)
    assert gradient is not None
    assert tiled_gradient is not None
    assert tiled_value == pytest.approx(value, rel=1e-5)
    scale = float(gradient.abs().max())
    torch.testing.assert_close(tiled_gradient / scale, gradient / scale, rtol=0, atol=1e-5)


def test_padding_does_not_count() -> None:
    pixels = photograph(128, 128)
    refined, x = refinement(pixels)
    refined.size = (100, 70)
    z1 = level1_sample(refined, 8, 8)
    value, _ = refined._distortion(z1, False)
    x[:, :, 100:], x[:, :, :, 70:] = 0.0, 1.0
    assert refined._distortion(z1, False)[0] == value
    x[:, :, 50:60, 50:60] = 0.0
    assert refined._distortion(z1, False)[0] != value


@pytest.mark.parametrize("kind", ["mse", "mae", "ms-ssim"])
def test_each_distortion_falls(kind: str) -> None:
    lambdas = {"ms-ssim": 10.0, "mae": 100.0}.get(kind, 0.02)
    objective = {"distortion": kind, "lambda_min": lambdas, "lambda_max": lambdas}
    pixels = photograph(128, 160)
    refined, x = refinement(pixels, steps=4, **objective)
    blend = refined.blend
    with torch.no_grad():
        mu_x, log_s_x = refined.model.encode1(x, blend)
        d2, log_r2 = refined.model.posterior2(mu_x, blend)
    seen: list[float] = []
    descend = refined._descend

    def watched(steps: int, evaluate: Any, offsets: Any) -> None:
        seen.append(evaluate(False).value)
        descend(steps, evaluate, offsets)
        seen.append(evaluate(False).value)

    refined._descend = watched  # type: ignore[method-assign]
    refined.level2(mu_x, log_s_x, d2, log_r2)
    assert seen[1] < seen[0]


def test_steps_that_are_too_long_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = photograph(96, 128)
    plain = cost(codec(), pixels, 0.6)
    monkeypatch.setattr(refining, "STEP1", 1e4)
    monkeypatch.setattr(refining, "STEP2", 1e4)
    assert cost(codec(effort=4), pixels, 0.6) < 1.02 * plain


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 10])
@pytest.mark.parametrize("distance", [0.02, 0.1, 0.3, 0.5, 1.0])
def test_a_few_steep_directions_do_no_harm(steps: int, distance: float) -> None:
    refined, _ = refinement(photograph(64, 64), steps=steps)
    curvature = torch.tensor([1.0] * 100 + [20.0])
    goal = torch.tensor([1.0] * 100 + [distance])
    u = torch.zeros(101)

    def evaluate(with_gradients: bool) -> Evaluation:
        value = float((curvature * (u - goal).square()).sum()) / 2
        return Evaluation(value, [curvature * (u - goal)] if with_gradients else [])

    before = evaluate(False).value
    for count in (refined.joint_steps, steps - refined.joint_steps):
        refined._descend(count, evaluate, [u])
    assert evaluate(False).value <= before


def test_refined_targets_are_finite_and_keep_their_scales() -> None:
    pixels = photograph(96, 96)
    ladder = load_model(WEIGHTS, "float32")
    effort = Effort(4, load_weights(WEIGHTS).objective, 0)
    plain, _ = sample_ladder(ladder.encode(pixels, 0.5), 0)
    refined, _ = sample_ladder(ladder.encode(pixels, 0.5, effort), 0)
    np.testing.assert_array_equal(plain[0].r, refined[0].r)
    assert all(np.isfinite(t.d).all() for t in refined)
    assert not np.array_equal(plain[0].d, refined[0].d)


def test_a_laplace_scale_weighs_absolute_errors() -> None:
    pixels = photograph(64, 64)
    gamma, rate = 0.02, 0.4
    laplace = {"distortion": "mae", "laplace_scale": gamma, "learned_scale": True}
    refined, x = refinement(pixels, rate, lambda_min=0.1, lambda_max=1.0, **laplace)
    refined.dtype = torch.float32
    z1 = torch.zeros_like(level1_sample(refined, 4, 4))
    nats, _ = refined._distortion(z1, False)
    with torch.no_grad():
        shown = refined.model.reconstruct(z1, refined.blend)
    # lambda times the negative logarithm of the Laplace likelihood, but for its normaliser
    expected = 0.1 * 10**rate * float((x - shown).abs().sum()) / gamma
    assert nats == pytest.approx(expected, rel=1e-4)


# -- refusals, command line -----------------------------------------------------------


def test_a_learned_laplace_scale_must_be_told() -> None:
    objective = {**load_weights(WEIGHTS).objective, "distortion": "mae", "learned_scale": True}
    with pytest.raises(UsageError, match="learned Laplace scale"):
        Effort(1, objective, 0)


@pytest.mark.parametrize("value", [-1, 1.5, "much"])
def test_an_effort_must_be_a_count(value: Any) -> None:
    with pytest.raises(UsageError, match="effort"):
        codec(effort=value)


def run(*arguments: object) -> int:
    sys.argv = ["toolkit", *map(str, arguments)]
    try:
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "argv", [])
    path = tmp_path / "photo.png"
    Image.fromarray(photograph(96, 128)).save(path)
    return path


def test_encode_takes_an_effort(photo: Path, tmp_path: Path) -> None:
    by_flag, by_option = tmp_path / "a.qf", tmp_path / "b.qf"
    common = ("--codec", "pln-fast", "--point", 0.5)
    assert run("encode", photo, by_flag, *common, "--effort", 2) == 0
    assert run("encode", photo, by_option, *common, "-o", "effort=2") == 0
    assert by_flag.read_bytes() == by_option.read_bytes()


@pytest.mark.parametrize("preset", ["pln-fast", "pln-isgs"])
def test_a_wanted_size_goes_with_effort(
    photo: Path,
    tmp_path: Path,
    preset: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "STEPS", 3)
    out = tmp_path / "a.qf"
    arguments = ("--codec", preset, "--effort", 1, "--target-bytes", 900, "--json")
    assert run("encode", photo, out, *arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == out.stat().st_size <= 900
    assert told["bytes"] >= (899 if preset == "pln-fast" else 700)


def test_other_codecs_have_no_effort(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("encode", photo, tmp_path / "a.jpg", "--codec", "jpeg", "--effort", 2) == 2
    assert "effort" in capsys.readouterr().err
