"""LPIPS and DISTS: with stand-ins for their packages, and with the packages where they work."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pytest
import torch
from evaluation_workspace import add_image, run, workspace

from toolkit.errors import MissingError
from toolkit.plugin.loader import load_plugins
from toolkit_evaluation.metrics import perceptual

__all__ = ["workspace"]  # a fixture

STATES = {
    "alexnet": ("features", [(0, 64, 3, 11), (3, 192, 64, 5), (6, 384, 192, 3), (8, 256, 384, 3),
                             (10, 256, 256, 3)]),
    "vgg16": ("features", [(0, 64, 3, 3), (2, 64, 64, 3), (5, 128, 64, 3), (7, 128, 128, 3),
                           (10, 256, 128, 3), (12, 256, 256, 3), (14, 256, 256, 3),
                           (17, 512, 256, 3), (19, 512, 512, 3), (21, 512, 512, 3),
                           (24, 512, 512, 3), (26, 512, 512, 3), (28, 512, 512, 3)]),
}  # fmt: skip
"""(layer, channels out, channels in, width) of the convolutions whose features are used."""


def picture(seed, side=48):
    return np.random.default_rng(seed).integers(0, 256, (side, side + 8, 3)).astype(np.uint8)


@pytest.fixture(params=["lpips", "dists"])
def metric(request, monkeypatch, tmp_path):
    """A metric that hasn't loaded anything, an empty cache of weights, no packages loaded."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    fresh = getattr(perceptual, request.param)
    fresh.__dict__.pop("network", None)
    yield fresh
    fresh.__dict__.pop("network", None)


def put_weights(metric, tmp_path):
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / metric.weights).touch()


def stand_in(monkeypatch, tmp_path, network):
    """Packages ``lpips`` and ``DISTS_pytorch`` whose network is ``network``."""
    for name, kind in (("lpips", "LPIPS"), ("DISTS_pytorch", "DISTS")):
        module = ModuleType(name)
        setattr(module, kind, network)
        module.__file__ = str(tmp_path / "__init__.py")
        module.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    torch.save({"alpha": torch.ones(2)}, tmp_path / "weights.pt")


class Largest(torch.nn.Module):
    """The largest difference of two images that are in the range they should be."""

    def __init__(self, **arguments):
        super().__init__()
        self.alpha = torch.nn.Parameter(torch.zeros(2))
        self.arguments = arguments

    def forward(self, first, second):
        assert first.shape == second.shape == (1, 3, 48, 56)
        assert not torch.is_grad_enabled()
        low = -1 if "net" in self.arguments else 0
        assert low <= min(first.min(), second.min()) < low + 0.1
        assert 0.9 < max(first.max(), second.max()) <= 1
        return (first - second).abs().max()


def test_pixels_reach_the_network_in_its_range(metric, monkeypatch, tmp_path):
    put_weights(metric, tmp_path)
    stand_in(monkeypatch, tmp_path, Largest)
    metric.prepare()
    black, white = np.zeros((48, 56, 3), np.uint8), np.full((48, 56, 3), 255, np.uint8)
    black[0, 0], white[0, 0] = 255, 0
    assert metric(black, white) == 1 - metric.low
    assert np.isnan(metric(picture(0, 31), picture(1, 31)))
    if metric.name == "dists":
        assert metric.network.alpha.tolist() == [1, 1]  # its own weights, beside its code


def test_weights_that_are_missing_are_said_before_a_run(metric, workspace, monkeypatch, tmp_path):
    stand_in(monkeypatch, tmp_path, Largest)
    monkeypatch.setitem(sys.modules, "torchvision", sys.modules["lpips"])
    with pytest.raises(MissingError, match=f"needs torchvision's weights of {metric.backbone}"):
        run(workspace, points=[8], metrics=["psnr", metric.name])
    assert not (workspace / "results").exists()


def test_a_run_with_it(metric, workspace, monkeypatch, tmp_path):
    put_weights(metric, tmp_path)
    stand_in(monkeypatch, tmp_path, Largest)
    monkeypatch.setitem(sys.modules, "torchvision", sys.modules["lpips"])
    add_image(workspace / "large.png", 3, shape=(48, 56, 3))
    table = run(workspace, images="large.png", points=[8, 64], metrics=["psnr", metric.name])
    fine, coarse = (row.metrics[metric.name] for row in table.rows)
    assert 0 < fine < coarse
    assert table.means[0].value(metric.name) == fine


def test_packages_that_are_broken_or_missing(metric, monkeypatch, tmp_path):
    put_weights(metric, tmp_path)

    def broken(**arguments):
        raise RuntimeError("no such\noperator")

    stand_in(monkeypatch, tmp_path, broken)
    with pytest.raises(MissingError, match=f"metric '{metric.name}' can't be used: no such oper"):
        metric.prepare()
    spec = load_plugins().metric(metric.name)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"needs python:\w+, python:torchvision: not installed"):
        spec.prepare()


@pytest.mark.slow
def test_the_real_packages_on_weights_made_here(metric, tmp_path):
    """Random convolutions: not the metric's values, but its way from files to a number."""
    package = {"lpips": "lpips", "dists": "DISTS_pytorch"}[metric.name]
    for name in ("torchvision", package):
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a broken installation raises
            pytest.skip(f"{name} doesn't work here: {error}")
    prefix, layers = STATES[metric.backbone]
    torchvision = importlib.import_module("torchvision")
    state = getattr(torchvision.models, metric.backbone)(weights=None).state_dict()
    generator = torch.Generator().manual_seed(0)
    for layer, out, into, width in layers:
        weights = torch.randn((out, into, width, width), generator=generator)
        state[f"{prefix}.{layer}.weight"] = weights * (2 / (into * width * width)) ** 0.5
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(state, tmp_path / "hub" / "checkpoints" / metric.weights)
    metric.prepare()
    image = picture(0, 64)
    near, far = (np.clip(image + step * np.float32(picture(1, 64) - 128.0), 0, 255).astype(np.uint8)
                 for step in (0.1, 0.5))  # fmt: skip
    assert metric(image, image) == pytest.approx(0, abs=1e-5)
    assert 0 < metric(image, near) < metric(image, far)
