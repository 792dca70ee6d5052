"""The stand-in for CompressAI's GaussianConditional, in CompressAI's own models."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from random_models import picture, random_model

from toolkit.errors import UsageError
from toolkit.format.errors import BadFile
from toolkit_plugins.compressai.sampled import (
    UNIFORM_NOISE,
    GaussianConditional,
    SampledGaussianConditional,
    code_samples,
)
from toolkit_plugins.compressai.upstream import submodule

FAST: dict[str, Any] = {"options": {"nu": 8}}


def images(count: int = 2) -> torch.Tensor:
    pictures = np.stack([picture(128, 192, seed) for seed in range(count)])
    return torch.from_numpy(pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255)


@pytest.fixture(scope="module")
def latents() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    scales = 0.2 + 3 * torch.rand(2, 16, 1, 1).expand(2, 16, 24, 24)
    means = torch.randn(2, 16, 24, 24)
    return means + scales * torch.randn_like(means), scales, means


def test_strings_hold_samples_near_the_latents(
    latents: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    y, scales, means = latents
    layer = SampledGaussianConditional(None).eval()
    strings = layer.compress(y, layer.build_indexes(scales), means)
    y_hat = layer.decompress(strings, layer.build_indexes(scales), means=means)
    assert y_hat.shape == y.shape
    error = float((y_hat - y).std())
    assert 0.9 * UNIFORM_NOISE < error < 1.1 * UNIFORM_NOISE
    kl = float(layer.kl_bits(y, scales, means).sum())
    assert kl < 8 * sum(map(len, strings)) < 1.1 * kl


def test_likelihoods_are_the_bits_and_have_gradients(
    latents: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    y, scales, means = latents
    layer = SampledGaussianConditional(None, width=0.5)
    learned = scales.clone().requires_grad_()
    y_hat, likelihoods = layer(y, learned, means)
    bits = -torch.log2(likelihoods)
    posterior = torch.distributions.Normal(y, 0.5)
    prior = torch.distributions.Normal(means, torch.sqrt(scales**2 + 0.25))
    expected = torch.distributions.kl_divergence(posterior, prior) / math.log(2)
    torch.testing.assert_close(bits.detach(), expected, rtol=1e-4, atol=1e-4)
    assert abs(float((y_hat - y).std()) - 0.5) < 0.01
    bits.sum().backward()
    assert learned.grad is not None
    assert bool(learned.grad.abs().sum() > 0)


def test_priors_that_differ_a_little_do_no_harm(
    latents: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    y, scales, means = latents
    layer = SampledGaussianConditional(None, **FAST)
    strings = layer.compress(y, scales, means)
    here = layer.decompress(strings, scales, means=means)
    there = layer.decompress(strings, scales * (1 + 1e-6), means=means + 1e-6)
    torch.testing.assert_close(here, there, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "architecture", ["bmshj2018-hyperprior", "mbt2018-mean"], ids=lambda name: name
)
def test_models_of_compressai_run_with_it(architecture: str) -> None:
    model = code_samples(random_model(architecture), **FAST)
    assert not [m for m in model.modules() if type(m) is GaussianConditional]
    model.update(force=True)  # type: ignore[operator]
    x = images()
    coded = model.compress(x)  # type: ignore[operator]
    decoded = model.decompress(coded["strings"], coded["shape"])["x_hat"]  # type: ignore[operator]
    estimated = model(x)
    y_bits = float(-torch.log2(estimated["likelihoods"]["y"]).sum())
    sent = 8 * sum(map(len, coded["strings"][0]))
    assert abs(sent / y_bits - 1) < 0.2
    assert decoded.shape == x.shape
    assert float((decoded - estimated["x_hat"].clamp(0, 1)).abs().mean()) < 0.05


def test_weights_load_as_before() -> None:
    model = random_model("mbt2018-mean")
    model.update(force=True)
    state = model.state_dict()
    sampled = code_samples(random_model("mbt2018-mean", seed=1), **FAST)
    sampled.load_state_dict(state)
    torch.testing.assert_close(sampled.state_dict()["g_a.0.weight"], state["g_a.0.weight"])


def test_a_few_steps_of_training_lower_the_loss() -> None:
    torch.manual_seed(0)
    model = code_samples(submodule("models").MeanScaleHyperprior(6, 8)).train()
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(12):
        out = model(images())
        bits = sum(-torch.log2(p).sum() for p in out["likelihoods"].values())
        loss = 500 * torch.nn.functional.mse_loss(out["x_hat"], images()) + bits / images().numel()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


def test_what_it_cannot_do() -> None:
    layer = SampledGaussianConditional(None, **FAST)
    y, scales = torch.zeros(1, 4, 4, 4), torch.ones(1, 4, 4, 4)
    with pytest.raises(ValueError, match="nothing is rounded"):
        layer.quantize(y, "symbols")
    with pytest.raises(ValueError, match="scales"):
        layer.compress(y, scales[:, :2])
    (string,) = layer.compress(y, scales)
    with pytest.raises(ValueError, match="strings"):
        layer.decompress([string, string], scales)
    with pytest.raises(BadFile):
        layer.decompress([string[:-1]], scales)
    with pytest.raises(UsageError, match="width"):
        SampledGaussianConditional(None, width=0)
    with pytest.raises(UsageError, match="autoregressive"):
        code_samples(random_model("mbt2018"))
    with pytest.raises(UsageError, match="no GaussianConditional"):
        code_samples(random_model("bmshj2018-factorized"))
