"""The mathematics under the PLN and the VAE: posteriors, layers, training passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from toolkit.entropy_model.base import Gaussian, Level, Size, product_of_gaussians
from toolkit.entropy_model.base import kl_bits as kl_bits_of_logs
from toolkit.sampling.contract import kl_bits
from toolkit_plugins.networks.layers import GDN, InverseGDN, Normalization, interpolation_weights
from toolkit_plugins.pln.model import PLN, PLNOptions


def test_the_posterior_is_the_precision_weighted_product() -> None:
    rng = np.random.default_rng(0)
    mu_x, mu_p = rng.normal(0, 3, (2, 100))
    log_s_x, log_s_p = rng.normal(0, 1.5, (2, 100))
    encoder, prior = (
        Gaussian(torch.from_numpy(mean), torch.from_numpy(log_scale))
        for mean, log_scale in ((mu_x, log_s_x), (mu_p, log_s_p))
    )
    d, log_r = product_of_gaussians(encoder, prior)
    s_x, s_p = np.exp(log_s_x), np.exp(log_s_p)
    variance = 1 / (s_x**-2 + s_p**-2)
    mean = (mu_x * s_x**-2 + mu_p * s_p**-2) * variance
    np.testing.assert_allclose(d, (mean - mu_p) / s_p, rtol=1e-9)
    np.testing.assert_allclose(np.exp(log_r), np.sqrt(variance) / s_p, rtol=1e-9)
    assert float(log_r.max()) < 0


@pytest.mark.parametrize("linear", [False, True])
def test_sorting_the_channels_and_changes_nothing_else(linear: bool) -> None:
    torch.manual_seed(3)
    options = PLNOptions(
        widths=(4, 5, 6),
        level1_channels=7,
        level2_width=5,
        level2_channels=6,
        knots=3,
        linear=linear,
    )
    model = PLN(options)
    if linear:
        torch.nn.init.normal_(model.synthesis1.linear.gain.log_gain)
    x, rate = torch.rand(2, 3, 128, 96), torch.tensor([0.5, 0.5])

    def means() -> tuple[torch.Tensor, ...]:
        bits: list[torch.Tensor] = []

        def at_mean(index: int, level: Level) -> torch.Tensor:
            assert level.posterior is not None
            bits.append(level.kl_bits().mean((0, 2, 3)))
            return level.posterior.mean

        image = model.walk(Size(2, 128, 96), rate, model.analyse(x, rate), at_mean)
        return image, *bits

    with torch.no_grad():
        image, *bits = means()
        model.sort_channels(x)
        same_image, *sorted_bits = means()
    torch.testing.assert_close(same_image, image, rtol=1e-4, atol=1e-5)
    for before, after in zip(bits, sorted_bits, strict=True):
        assert before.tolist() != after.tolist()
        torch.testing.assert_close(before.sort(descending=True).values, after, rtol=1e-4, atol=1e-5)


def test_a_sharp_encoder_decides() -> None:
    one = torch.tensor([1.0])
    d, log_r = product_of_gaussians(Gaussian(5 * one, -6 * one), Gaussian(-2 * one, 0 * one))
    assert float(d) == pytest.approx(7, rel=1e-4)
    assert float(torch.exp(log_r)) == pytest.approx(np.exp(-6), rel=1e-4)


def test_both_forms_of_the_kl_agree_with_the_integral() -> None:
    for d, r in [(0.0, 1.0), (0.7, 0.3), (-2.0, 0.05), (3.0, 0.9)]:
        x = np.linspace(d - 9 * r, d + 9 * r, 20001)
        log_q = -0.5 * ((x - d) / r) ** 2 - np.log(r * np.sqrt(2 * np.pi))
        log_p = -0.5 * x**2 - np.log(np.sqrt(2 * np.pi))
        bits = float(np.sum(np.exp(log_q) * (log_q - log_p)) * (x[1] - x[0]) / np.log(2))
        arrays = np.float32([[[d]]]), np.float32([[[r]]])
        assert float(kl_bits(*arrays).sum()) == pytest.approx(bits, abs=1e-4)
        logs = torch.tensor(d), torch.tensor(r).log()
        assert float(kl_bits_of_logs(*logs)) == pytest.approx(bits, abs=1e-4)


def compressais(ours: Normalization, inverse: bool) -> torch.nn.Module:
    """CompressAI's layer of the parameters of ours, which are drawn."""
    upstream = pytest.importorskip("toolkit_plugins.compressai.upstream")
    theirs: torch.nn.Module = upstream.compressai().layers.GDN(8, inverse=inverse)
    torch.manual_seed(0)
    with torch.no_grad():
        ours.root_gamma.copy_(torch.rand(8, 8))
        ours.root_beta.copy_(1 + torch.rand(8))
        theirs.gamma.copy_(theirs.gamma_reparam.init(ours.root_gamma**2))
        theirs.beta.copy_(theirs.beta_reparam.init(ours.root_beta**2))
    return theirs


def test_gdn_is_compressais() -> None:
    ours = GDN(8)
    theirs = compressais(ours, False)
    x = torch.randn(2, 8, 5, 7)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_inverse_gdn_is_compressais_shuffled_and_mirrored() -> None:
    ours = InverseGDN(8)
    theirs = compressais(ours, True)
    phases, gain = torch.randn(2, 4, 8, 5, 7, requires_grad=True), torch.rand(2, 8) + 0.5
    gain.requires_grad_(True)
    shuffled = torch.nn.functional.pixel_shuffle(phases.transpose(1, 2).flatten(1, 2), 2)
    expected = theirs(shuffled) * gain[:, :, None, None]
    expected = torch.nn.functional.pad(expected, (1, 1, 1, 1), mode="reflect")
    shown = ours(phases.flatten(1, 2), gain)
    torch.testing.assert_close(shown, expected, rtol=1e-4, atol=1e-5)
    weight = torch.randn_like(shown)
    moved = [phases, gain]
    torch.testing.assert_close(
        torch.autograd.grad((shown * weight).sum(), moved),
        torch.autograd.grad((expected * weight).sum(), moved),
        rtol=1e-4,
        atol=1e-4,
    )


def test_inverse_gdn_knows_its_gradients() -> None:
    torch.manual_seed(0)
    layer = InverseGDN(3).double()
    phases, gain = torch.randn(2, 12, 3, 2).double(), torch.rand(2, 3).double() + 0.5
    names = [name for name, _ in layer.named_parameters()]

    def function(x: torch.Tensor, gain: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        named = dict(zip(names, parameters, strict=True))
        shown: torch.Tensor = torch.func.functional_call(layer, named, (x, gain))
        return shown

    inputs = [phases, gain, *(torch.rand_like(p) + 0.3 for p in layer.parameters())]
    assert torch.autograd.gradcheck(function, [t.requires_grad_(True) for t in inputs])


def test_rates_are_interpolated_between_knots() -> None:
    weights = interpolation_weights(torch.tensor([0.0, 0.5, 1.0, 0.3]), 5)
    torch.testing.assert_close(weights.sum(1), torch.ones(4))
    torch.testing.assert_close(weights @ torch.linspace(0, 1, 5), torch.tensor([0, 0.5, 1, 0.3]))


def test_training_pass_bits_are_the_kl_of_each_image() -> None:
    torch.manual_seed(0)
    model = PLN(PLNOptions(widths=(4, 4, 4), level1_channels=4, level2_width=4, level2_channels=2))
    result = model.training_pass(torch.rand(3, 3, 96, 128), torch.tensor([0.0, 0.5, 1.0]))
    assert result.x_hat.shape == (3, 3, 96, 128)
    assert set(result.bits) == {"level1", "level2"}
    assert all(b.shape == (3,) and bool((b > 0).all()) for b in result.bits.values())
