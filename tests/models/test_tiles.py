"""Large pictures in tiles: what comes out is what the whole picture at once gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from training_runs import SMALL_DEEP

import toolkit
from toolkit.entropy_model import network as networks
from toolkit.entropy_model import walk
from toolkit.entropy_model.base import LadderModel, Size
from toolkit.entropy_model.network import LadderNetwork
from toolkit.entropy_model.tiles import tiles
from toolkit.entropy_model.walk import mirrored
from toolkit.options import parse_options
from toolkit.plugin.loader import load_plugins
from toolkit.sampling.ladder import DecodeLadder, Target, posterior_sample
from toolkit_evaluation.data.datasets import sample_paths

Pixels = NDArray[np.uint8]
EXAMPLE = Path(__file__).parents[2] / "examples" / "entropy_model.py"
PLUGINS = load_plugins([EXAMPLE])
SMALL: dict[str, dict[str, Any]] = {
    "pln": {
        "widths": [6, 8, 10],
        "level1_channels": 6,
        "level2_width": 6,
        "level2_channels": 3,
        "linear": True,
    },
    "vae": {"widths": [6, 8, 10], "level1_channels": 6},
    "deep-pln": SMALL_DEEP,
    "tiny": {"width": 8, "channels": [2, 3, 4]},
}
TOO_SMALL = {"pln": 96, "vae": 16, "deep-pln": 96, "tiny": 16}
"""Reaches: of the PLN and the VAE by one stride of the upper level."""
TILE = 96


def network(name: str) -> LadderNetwork:
    """With random weights, all of whose maps say something."""
    torch.manual_seed(0)
    spec = PLUGINS.entropy_model(name)
    model = spec.loaded(parse_options(spec.loaded.options_class, SMALL[name], "test")).eval()
    assert isinstance(model, LadderModel)
    return LadderNetwork(model.requires_grad_(False))


def noise(height: int, width: int) -> Pixels:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def photograph(height: int, width: int) -> Pixels:
    """A piece of a photograph that ships inside scikit-image."""
    path = next(p for p in sample_paths() if p.stem == "astronaut")
    return np.ascontiguousarray(np.asarray(Image.open(path))[:height, :width])


def coded(net: LadderNetwork, pixels: Pixels) -> tuple[list[Target], list[Any], Pixels]:
    """Targets and samples of all levels, and the picture."""
    targets: list[Target] = []
    samples: list[Any] = []
    ladder = net.encode(pixels, 0.6)
    try:
        target = next(ladder)
        while True:
            targets.append(target)
            samples.append(posterior_sample(target, 0, len(samples)))
            target = ladder.send(samples[-1])
    except StopIteration as stop:
        return targets, samples, stop.value()


def decoded(ladder: DecodeLadder, samples: list[Any]) -> Pixels:
    try:
        found = next(ladder)
        for sample in samples:
            assert found[1] == sample.shape
            found = ladder.send(sample)
    except StopIteration as stop:
        pixels: Pixels = stop.value
        return pixels
    raise AssertionError("more levels than samples")


def farthest(a: list[Target], b: list[Target]) -> float:
    """The largest difference of two encodings' targets."""
    return max(
        float(np.abs(getattr(s, part) - getattr(t, part)).max())
        for s, t in zip(a, b, strict=True)
        for part in ("d", "r")
    )


def off_by(a: Pixels, b: Pixels) -> int:
    return int(np.abs(a.astype(int) - b).max())


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """All in float32, whatever the processor."""
    monkeypatch.setattr(networks, "encoder_dtype", lambda *_: torch.float32)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda tile=TILE: monkeypatch.setattr(walk, "TILE", tile)


# -- models -----------------------------------------------------------------------


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    "size", [pytest.param((301, 640), marks=pytest.mark.slow), (700, 97), (1, 530)]
)
def test_tiles_give_what_the_whole_gives(
    name: str, size: tuple[int, int], small_tiles: Any
) -> None:
    net, pixels = network(name), noise(*size)
    targets, samples, shown = coded(net, pixels)
    small_tiles()
    in_tiles, _, shown_in_tiles = coded(net, pixels)
    assert farthest(targets, in_tiles) < 2e-5
    # their own samples, which may differ in the last bit
    assert off_by(shown, shown_in_tiles) <= 1
    assert off_by(shown, decoded(net.decode(*size, 0.6), samples)) <= 1


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize(
    "name", [n if n != "deep-pln" else pytest.param(n, marks=pytest.mark.slow) for n in SMALL]
)
def test_a_reach_that_is_too_small_shows(name: str, small_tiles: Any) -> None:
    net, pixels = network(name), noise(320, 640)
    targets, samples, shown = coded(net, pixels)
    small_tiles()
    net.model.reach = TOO_SMALL[name]
    in_tiles, _, _ = coded(net, pixels)
    again = decoded(net.decode(320, 640, 0.6), samples)
    assert farthest(targets, in_tiles) > 2e-4 or off_by(shown, again) > 1


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("name", ["pln", "vae", "deep-pln"])
def test_a_reach_of_the_image_that_is_too_small_shows(name: str, small_tiles: Any) -> None:
    net, pixels = network(name), noise(200, 333)
    _, samples, shown = coded(net, pixels)
    small_tiles()
    assert off_by(shown, decoded(net.decode(200, 333, 0.6), samples)) <= 1
    net.model.image_reach = 0
    assert off_by(shown, decoded(net.decode(200, 333, 0.6), samples)) > 1


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("name", SMALL)
def test_levels_left_out_and_latents_in_tiles(name: str, small_tiles: Any) -> None:
    net, pixels = network(name), noise(200, 333)
    _, samples, _ = coded(net, pixels)
    asked = net.model.depth - 1
    whole = decoded(net.decode(200, 333, 0.6, asked), samples[:asked])
    latents = net.levels(pixels, 0.6, 0)
    small_tiles()
    assert off_by(whole, decoded(net.decode(200, 333, 0.6, asked), samples[:asked])) <= 1
    for one, other in zip(latents, net.levels(pixels, 0.6, 0), strict=True):
        for part in ("prior_mean", "prior_scale", "posterior_mean", "posterior_scale", "sample"):
            np.testing.assert_allclose(
                getattr(one, part), getattr(other, part), rtol=1e-4, atol=1e-4
            )


@pytest.mark.usefixtures("in_float32")
def test_nothing_larger_than_a_tile_goes_through_the_networks(
    small_tiles: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, sides = network("pln"), []
    for method, stride in (("analyse", 1), ("reconstruct", 16)):
        inner = getattr(net.model, method)

        def noted(x: Any, rate: Any, inner: Any = inner, stride: int = stride) -> Any:
            first = x[0] if isinstance(x, tuple) else x
            sides.extend(stride * side for side in first.shape[2:])
            return inner(x, rate)

        monkeypatch.setattr(net.model, method, noted)
    small_tiles()
    coded(net, noise(640, 800))
    assert max(sides) <= TILE + 2 * net.model.reach
    assert len(sides) == 2 * 2 * 7 * 9


# -- files ------------------------------------------------------------------------


def test_files_are_the_same_whatever_the_tiles(small_tiles: Any) -> None:
    pixels = photograph(128, 511)
    codec = toolkit.load("pln-fast")
    whole = codec.encode(pixels, 0.5)
    shown = whole.reconstruction
    small_tiles(160)
    in_tiles = codec.encode(pixels, 0.5)
    assert in_tiles.reconstruction is not None
    np.testing.assert_array_equal(in_tiles.reconstruction, toolkit.decode(in_tiles.data))
    assert shown is not None
    assert off_by(shown, toolkit.decode(whole.data)) <= 1
    # an analysis in bfloat16 may round otherwise: another file then, as long and as good
    assert len(in_tiles.data) == pytest.approx(len(whole.data), rel=2e-3)
    errors = [np.mean((pixels.astype(float) - p) ** 2) for p in (shown, in_tiles.reconstruction)]
    assert errors[1] == pytest.approx(errors[0], rel=5e-3)


# -- parts ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (5, 130), (96, 33)])
def test_the_mirror_is_numpys(size: tuple[int, int]) -> None:
    pixels, (height, width) = noise(*size), size
    pads = ((0, 160 - height), (0, 160 - width), (0, 0))
    padded = np.pad(pixels, pads, mode="symmetric")
    for top, left in ((0, 0), (3, 64), (90, 31)):
        piece = mirrored(pixels, ((top, top + 64), (left, 160)))
        np.testing.assert_array_equal(piece, padded[top : top + 64, left:])


def test_sides_are_multiples_of_the_stride_whatever_the_least() -> None:
    net = network("tiny")
    net.model.least_side = 20
    for side, padded in ((1, 24), (20, 24), (24, 24), (25, 32)):
        assert net.padded(side, 80) == Size(1, padded, 80)
    _, samples, shown = coded(net, noise(5, 21))
    assert off_by(shown, decoded(net.decode(5, 21, 0.6), samples)) == 0


def test_tiles_cover_every_pixel_once() -> None:
    size, count = Size(1, 320, 992), torch.zeros(1, 1, 20, 62)
    for tile in tiles(size, 32, 100, 50):
        tile.place(count).add_(1)
        assert tile.within(tile).outer_size == tile.outer_size
        (outer_y, outer_x), (inner_y, inner_x) = tile.outer, tile.inner
        for (a, b), (c, d), side in ((outer_y, inner_y, 320), (outer_x, inner_x, 992)):
            assert a == max(0, c - 64)
            assert b == min(side, d + 64)
    assert (count == 1).all()
