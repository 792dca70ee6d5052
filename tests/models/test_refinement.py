"""Refinement of a picture's posterior before it is coded: option ``refinement_steps``."""

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
from toolkit.entropy_model import refinement as refining
from toolkit.entropy_model.base import Size, State
from toolkit.entropy_model.network import LadderNetwork, load_network
from toolkit.entropy_model.refinement import Descent, EncoderRefinement, Evaluation, steps_by_level
from toolkit.entropy_model.tiles import Tile, tiles
from toolkit.entropy_model.walk import Walk
from toolkit.errors import UsageError
from toolkit.format.weights import load_weights
from toolkit.plugin.loader import load_plugins
from toolkit.sampling.ladder import sample_ladder
from toolkit_evaluation.data.datasets import sample_paths

Pixels = NDArray[np.uint8]
MODEL = load_plugins().entropy_model("pln")
WEIGHTS = (MODEL.weights_folder / "pln.safetensors").resolve()


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


def network() -> LadderNetwork:
    return load_network(MODEL, WEIGHTS, "float32")


def begun(
    pixels: Pixels, rate: float = 0.5, steps: int = 4, **objective: Any
) -> tuple[EncoderRefinement, refining._Work]:
    """A refinement that has taken up a picture, in float32, and the work on its top level."""
    net, at = network(), torch.tensor([rate])
    walk = Walk(net.model, net.padded(*pixels.shape[:2]), at, net._call)
    refined = EncoderRefinement(steps, {**load_weights(WEIGHTS).objective, **objective}, 0)
    refined.dtype = torch.float32

    def analyse(tile: Tile) -> State:
        with torch.no_grad():
            return net.model.analyse(net.image(pixels, tile.outer), at)

    refined.begin(walk, pixels, analyse)
    (tile,) = refined.pieces
    piece = refined.piece(tile)
    with torch.no_grad():
        state = net.model.start(walk.size, at)
        level = net.model.level(0, state, piece.features, at)
    return refined, refining._Work(refined, piece, 0, state, level)


# -- files ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "seeds", "most"),
    [pytest.param(0.2, 6, 0.995, marks=pytest.mark.slow), (0.9, 1, 0.97)],
)
def test_files_cost_less_the_more_steps_are_made(rate: float, seeds: int, most: float) -> None:
    pixels = photograph(128, 160)
    # one sample's cost varies by a percent, which is what steps bring at a low rate
    none, some = (
        sum(cost(codec(refinement_steps=n, seed=seed), pixels, rate) for seed in range(seeds))
        for n in (0, 5)
    )
    assert some < most * none


def test_no_steps_are_the_default_and_changes_nothing() -> None:
    pixels = photograph(96, 96)
    assert codec(refinement_steps=0).encode(pixels, 0.5).data == codec().encode(pixels, 0.5).data


def test_refinement_repeats_to_the_byte_and_is_not_in_the_file() -> None:
    pixels = photograph(100, 90)
    first, second = (codec(refinement_steps=3).encode(pixels, 0.5) for _ in range(2))
    assert first.data == second.data != codec().encode(pixels, 0.5).data
    np.testing.assert_array_equal(toolkit.decode(first.data), first.reconstruction)
    assert sum(first.parts.values()) == 8 * len(first.data)


@pytest.mark.parametrize("shape", [(1, 1, 3), (33, 97, 1), (40, 129, 4)])
@pytest.mark.parametrize("steps", [1, 2])
def test_any_size_and_mode_round_trips(shape: tuple[int, int, int], steps: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    encoded = codec(refinement_steps=steps).encode(pixels, 1.0)
    np.testing.assert_array_equal(toolkit.decode(encoded.data), encoded.reconstruction)


def test_a_file_size_is_hit_with_refinement() -> None:
    pixels = photograph(96, 128)
    size = len(codec().encode(pixels, 0.5).data)
    encoded = codec(refinement_steps=2).encode_within(pixels, 0.5, size)
    assert size - 1 <= len(encoded.data) <= size


def test_the_theoretical_point_is_refined_as_well() -> None:
    pixels = photograph(128, 128)
    without, refined = (codec(refinement_steps=n).theoretical(pixels, 0.7) for n in (0, 4))
    assert without is not None
    assert refined is not None
    assert without.bits != refined.bits
    errors = [np.mean((pixels.astype(float) - t.pixels) ** 2) for t in (without, refined)]
    assert errors[1] < errors[0]


# -- steps ------------------------------------------------------------------------


@pytest.mark.parametrize("sides", [(480, 64), (64, 400)])
def test_gradients_in_tiles_are_those_of_the_whole(
    sides: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a strip, so that most of it lies beyond a tile's margins."""
    pixels = photograph(*sides)
    values = []
    for tile in (768, 96):
        monkeypatch.setattr(refining, "TILE", tile)
        _, work = begun(pixels)
        values.append(work.evaluate(True))
    whole, tiled = values
    assert tiled.value == pytest.approx(whole.value, rel=1e-4)
    for a, b in zip(whole.gradients, tiled.gradients, strict=True):
        scale = float(a.abs().max())
        torch.testing.assert_close(b / scale, a / scale, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_large_pictures_are_refined_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, rate = photograph(512, 400), 0.8
    plain, whole = (cost(codec(refinement_steps=n), pixels, rate) for n in (0, 4))
    monkeypatch.setattr(refining, "PIECE", 224)
    assert cost(codec(refinement_steps=4), pixels, rate) < whole + 0.1 * (plain - whole)


def test_pieces_know_what_the_whole_does(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, objective = photograph(512, 400), load_weights(WEIGHTS).objective
    scales = []
    for piece, count in ((2048, 1), (224, 6)):
        monkeypatch.setattr(refining, "PIECE", piece)
        refined = EncoderRefinement(1, objective, 0)
        target = next(network().encode(pixels, 0.7, refined))
        assert len(refined.pieces) == count
        scales.append(target.r)
    np.testing.assert_allclose(*scales, rtol=0.02)


def test_padding_does_not_count() -> None:
    _, work = begun(photograph(100, 70))
    before = work.evaluate(False).distortion
    _, again = begun(photograph(100, 70))
    again.piece.x[:, :, 100:], again.piece.x[:, :, :, 70:] = 0.0, 1.0
    assert again.evaluate(False).distortion == before
    _, changed = begun(photograph(100, 70))
    changed.piece.x[:, :, 50:60, 50:60] = 0.0
    assert changed.evaluate(False).distortion != before


@pytest.mark.parametrize("kind", ["mse", "mae", "ms-ssim"])
def test_each_distortion_falls(kind: str) -> None:
    lambdas = {"ms-ssim": 10.0, "mae": 100.0}.get(kind, 0.02)
    objective = {"distortion": kind, "lambda_min": lambdas, "lambda_max": lambdas}
    refined, work = begun(photograph(128, 160), steps=4, **objective)
    before = work.evaluate(False).value
    refined.descent.run(3, work.evaluate, work.piece.offsets[::-1])
    assert work.evaluate(False).value < before


def test_steps_that_are_too_long_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = photograph(96, 128)
    plain = cost(codec(), pixels, 0.6)
    monkeypatch.setattr(refining, "STEP", 1e4)
    monkeypatch.setattr(refining, "UPPER_STEP", 1e4)
    assert cost(codec(refinement_steps=4), pixels, 0.6) < 1.02 * plain


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 10])
@pytest.mark.parametrize("distance", [0.02, 0.1, 0.3, 0.5, 1.0])
def test_a_few_steep_directions_do_no_harm(steps: int, distance: float) -> None:
    curvature = torch.tensor([1.0] * 100 + [20.0])
    goal = torch.tensor([1.0] * 100 + [distance])
    u = torch.zeros(101)

    def evaluate(with_gradients: bool) -> Evaluation:
        value = float((curvature * (u - goal).square()).sum()) / 2
        return Evaluation([0.0], value, [curvature * (u - goal)] if with_gradients else [])

    before, descent = evaluate(False).value, Descent(steps)
    for count in steps_by_level(steps, 2):
        descent.run(count, evaluate, [u])
    assert evaluate(False).value <= before


@pytest.mark.parametrize("steps", [0, 1, 4, 10, 23])
@pytest.mark.parametrize("depth", [1, 2, 3, 9])
def test_all_steps_are_made(steps: int, depth: int) -> None:
    counts = steps_by_level(steps, depth)
    assert len(counts) == depth
    assert sum(counts) == steps
    assert counts[1:] == sorted(counts[1:])


def test_refined_targets_are_finite_and_keep_their_scales() -> None:
    pixels = photograph(96, 96)
    refined = EncoderRefinement(4, load_weights(WEIGHTS).objective, 0)
    plain, _ = sample_ladder(network().encode(pixels, 0.5), 0)
    better, _ = sample_ladder(network().encode(pixels, 0.5, refined), 0)
    np.testing.assert_array_equal(plain[0].r, better[0].r)
    assert all(np.isfinite(t.d).all() for t in better)
    assert not np.array_equal(plain[0].d, better[0].d)


def test_a_laplace_scale_weighs_absolute_errors() -> None:
    gamma, rate = 0.02, 0.4
    laplace = {"distortion": "mae", "laplace_scale": gamma, "learned_scale": True}
    objective = {"lambda_min": 0.1, "lambda_max": 1.0, **laplace}
    _, work = begun(photograph(96, 96), rate, **objective)
    tile = next(tiles(Size(1, 96, 96), 32, 768, 0))
    shown = torch.rand(1, 3, 96, 96)
    nats = float(work._distortion(tile, shown))
    # lambda times the negative logarithm of the Laplace likelihood, but for its normaliser
    expected = 0.1 * 10**rate * float((work.piece.x - shown).abs().sum()) / gamma
    assert nats == pytest.approx(expected, rel=1e-4)


# -- refusals, command line -----------------------------------------------------------


def test_a_learned_laplace_scale_must_be_told() -> None:
    objective = {**load_weights(WEIGHTS).objective, "distortion": "mae", "learned_scale": True}
    with pytest.raises(UsageError, match="learned_scale needs a laplace_scale"):
        EncoderRefinement(1, objective, 0)


@pytest.mark.parametrize("value", [-1, 1.5, "much"])
def test_steps_must_be_a_count(value: Any) -> None:
    with pytest.raises(UsageError, match="refinement_steps"):
        codec(refinement_steps=value)


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


def test_encode_takes_steps(photo: Path, tmp_path: Path) -> None:
    by_flag, by_option = tmp_path / "a.qf", tmp_path / "b.qf"
    common = ("--codec", "pln-fast", "--point", 0.5)
    assert run("encode", photo, by_flag, *common, "--refinement-steps", 2) == 0
    assert run("encode", photo, by_option, *common, "-o", "refinement_steps=2") == 0
    assert by_flag.read_bytes() == by_option.read_bytes()


@pytest.mark.parametrize("preset", ["pln-fast", "pln-isgs"])
def test_a_wanted_size_goes_with_refinement(
    photo: Path,
    tmp_path: Path,
    preset: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "STEPS", 3)
    out = tmp_path / "a.qf"
    arguments = ("--codec", preset, "--refinement-steps", 1, "--target-bytes", 900, "--json")
    assert run("encode", photo, out, *arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == out.stat().st_size <= 900
    assert told["bytes"] >= (899 if preset == "pln-fast" else 700)


def test_other_codecs_have_no_refinement(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("encode", photo, tmp_path / "a.jpg", "--codec", "jpeg", "--refinement-steps", 2) == 2
    assert "refinement_steps" in capsys.readouterr().err
