"""What the thesis prints otherwise: options of the models and of the PLN's encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import toolkit
from toolkit.api import decode_file
from toolkit.entropy_model.base import Gaussian, Size
from toolkit.errors import UsageError
from toolkit_evaluation.data.datasets import sample_paths
from toolkit_plugins.pln.model import PLN, Combination, PLNEncoderOptions, PLNOptions
from toolkit_plugins.pln.vae import VAE, VAEOptions


def photograph() -> NDArray[np.uint8]:
    """192x160 of a photograph that ships inside scikit-image."""
    path: Path = next(p for p in sample_paths() if p.stem == "astronaut")
    return np.ascontiguousarray(np.asarray(Image.open(path))[:160, 100:292])


def squared_error(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(np.mean((a.astype(float) - b) ** 2))


@pytest.mark.parametrize("exponent", [1, 2])
@pytest.mark.parametrize("swapped", [False, True])
def test_combinations_are_what_their_formulas_say(exponent: Literal[1, 2], swapped: bool) -> None:
    """With 1 and swapped weights, the formula that section 3.2.2 prints."""
    rng = np.random.default_rng(1)
    mu_x, mu_p = rng.normal(0, 3, (2, 100))
    s_x, s_p = np.exp(rng.normal(0, 1.5, (2, 100)))
    encoder, prior = (
        Gaussian(torch.from_numpy(mean), torch.from_numpy(np.log(scale)))
        for mean, scale in ((mu_x, s_x), (mu_p, s_p))
    )
    d, log_r = Combination(exponent=exponent, swapped=swapped).posterior(encoder, prior)
    of_x, of_p = (s_p, s_x) if swapped else (s_x, s_p)
    total = s_x**-exponent + s_p**-exponent
    mean = (mu_x * of_x**-exponent + mu_p * of_p**-exponent) / total
    np.testing.assert_allclose(d, (mean - mu_p) / s_p, rtol=1e-9)
    np.testing.assert_allclose(np.exp(log_r), total ** (-1 / exponent) / s_p, rtol=1e-9)


def tiny(**options: Any) -> PLN:
    torch.manual_seed(5)
    known = {"widths": (4, 5, 6), "level1_channels": 7, "level2_width": 5, "knots": 1}
    return PLN(PLNOptions(**{**known, **options})).requires_grad_(False)


def test_a_model_trains_with_the_combination_of_its_options() -> None:
    x, rate = torch.rand(2, 3, 96, 96), torch.zeros(2)

    def level1_bits(model: PLN) -> torch.Tensor:
        torch.manual_seed(6)
        return model.training_pass(x, rate).bits["level1"]

    printed = Combination(exponent=1, swapped=True)
    model = tiny()
    product = level1_bits(model)
    assert not torch.allclose(level1_bits(tiny(combination=printed)), product, rtol=0.01)
    model.encoder = PLNEncoderOptions(combination=printed)
    assert torch.equal(level1_bits(model), level1_bits(tiny(combination=printed)))


def test_the_original_order_makes_the_posterior_of_another_z2() -> None:
    """Where the second level says nothing both orders are one; where it does, the posterior doesn't
    follow the z2 that was coded."""
    model, x, rate = tiny(), torch.rand(1, 3, 96, 96), torch.zeros(1)

    def posterior(z2: torch.Tensor, recomputed: bool) -> Gaussian:
        model.encoder = PLNEncoderOptions(recomputed=recomputed)
        state = model.descend(0, (), z2, rate)
        level = model.level(1, state, model.analyse(x, rate), rate)
        assert level.posterior is not None
        mean = level.latent(level.posterior.mean)
        return Gaussian(mean, level.prior.log_scale + level.posterior.log_scale)

    z2 = torch.randn(2, 1, 24, 3, 3)
    corrected, original = ([posterior(z, way) for z in z2] for way in (True, False))
    torch.testing.assert_close(original[0], original[1])
    assert not torch.allclose(corrected[0].mean, corrected[1].mean, rtol=0.01)
    for heads in (model.synthesis2.heads.mean, model.synthesis2.heads.log_scale):
        heads.weight.zero_()
    torch.testing.assert_close(posterior(z2[0], False), posterior(z2[0], True))


def test_the_vae_s_posterior_may_be_the_encoder_s_own() -> None:
    options = {"widths": (4, 5, 6), "level1_channels": 7, "knots": 1}
    x, rate = torch.rand(1, 3, 96, 96), torch.zeros(1)
    levels = []
    for kind in ("encoder", "product"):
        torch.manual_seed(7)
        model = VAE(VAEOptions(**options, posterior=kind)).requires_grad_(False)
        features = model.analyse(x, rate)
        levels.append(model.level(0, model.start(Size(1, 96, 96), rate), features, rate))
    encoder, product = (level.posterior for level in levels)
    assert encoder is not None
    assert product is not None
    torch.testing.assert_close(encoder, Gaussian(*features))
    assert bool((product.log_scale < encoder.log_scale).all())


ERRORS = ({"combination": {"exponent": 1, "swapped": True}}, {"recomputed": False})


@pytest.mark.parametrize("encoder", ERRORS, ids=lambda encoder: next(iter(encoder)))
def test_the_thesis_s_errors_cost_and_decoders_need_not_know(
    encoder: dict[str, Any],
) -> None:
    pixels, codec = photograph(), toolkit.load("pln-isgs")
    wrong = toolkit.load("pln-isgs", {"encoder": encoder})
    encoded, better = wrong.encode(pixels, 0.6), codec.encode(pixels, 0.6)
    np.testing.assert_array_equal(decode_file(encoded.data).pixels, encoded.reconstruction)
    assert encoded.data != better.data
    errors = [squared_error(pixels, e.reconstruction) for e in (encoded, better)]
    assert errors[0] > 1.3 * errors[1] or len(encoded.data) > len(better.data)


def test_encoder_options_are_checked_before_weights_load() -> None:
    with pytest.raises(UsageError, match="encoder: no option 'recomputd'; nearest: recomputed"):
        toolkit.load("pln", {"encoder": {"recomputd": True}, "weights": "none.safetensors"})
    with pytest.raises(UsageError, match="encoder: no option 'recomputed'"):
        toolkit.load("vae", {"encoder": {"recomputed": True}, "weights": "none.safetensors"})
