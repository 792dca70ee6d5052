"""The rejection sampler: exact whatever its budget; its stream."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from scipy.stats import norm

from toolkit.badfile import BadFile, BadStream
from toolkit.merit import figure_of_merit
from toolkit.plugins import load_plugins
from toolkit.randomness import SharedRandom
from toolkit.registry import load_registry, open_codec
from toolkit.testing import check_sampler
from toolkit.testing.exactness import deviation
from toolkit_evaluation.synthetic import synthetic_level
from toolkit_plugins.samplers.rejection import Rejection, RejectionOptions, _left


def rejection(bits: int = 8) -> Rejection:
    return Rejection(RejectionOptions(bits=bits))


def test_conformance() -> None:
    report = check_sampler("rejection", targets=30, damaged=60)
    assert "exactness" in report.checks
    check_sampler("rejection", {"bits": 2}, targets=10, damaged=20)


@pytest.mark.parametrize("bits", [1, 3, 8])
@pytest.mark.parametrize(("d", "r"), [(0.0, 1.0), (0.4, 1.6), (-2.0, 0.5), (1.0, 0.1), (5.0, 0.7)])
def test_exact_with_any_budget(bits: int, d: float, r: float) -> None:
    """What is sent by value after too many draws is of the right law, too."""
    shape = (2, 60, 100)
    coded = rejection(bits).encode(
        np.full(shape, d, np.float32), np.full(shape, r, np.float32), SharedRandom(3, 0)
    )
    assert deviation((coded.values.ravel().astype(float) - d) / r, seed=1) == ""


@given(st.floats(-4, 4), st.floats(0.05, 3).filter(lambda r: abs(r - 1) > 1e-3), st.floats(0.1, 50))
@settings(max_examples=60, deadline=None)
def test_what_is_left_of_the_target(d: float, r: float, s: float) -> None:
    """Against the integral of (Q - s P)^+ by quadrature."""

    x = np.linspace(d - 9 * r, d + 9 * r, 20_001)
    rest = np.maximum(norm.pdf(x, d, r) - s * norm.pdf(x), 0)
    expected = trapezoid(rest, x)
    left = _left(np.array([d]), np.array([r]), np.array([s]))[0]
    assert abs(left - expected) < 1e-4


def test_exact_samples_lose_nothing_but_bits() -> None:
    d, r = synthetic_level((64, 24, 24))
    coded = rejection().encode(d, r, SharedRandom(1, 0))
    merit = figure_of_merit(d, r, coded.values, 8 * len(coded.data))
    assert abs(merit.excess_percent) < 2
    assert merit.rate_percent > 50  # an index for each latent: that is what block coders save


def test_channels_that_are_the_prior_cost_nothing() -> None:
    d, r = np.zeros((16, 32, 32), np.float32), np.ones((16, 32, 32), np.float32)
    coded = rejection().encode(d, r, SharedRandom(1, 0))
    assert len(coded.data) < 30
    assert abs(coded.values.std() - 1) < 0.02


@given(st.integers(0, 2**31), st.floats(-12, 2), st.sampled_from([0.0, 1.0, 5.0, 1e5]))
@settings(max_examples=60, deadline=None)
def test_decoder_repeats_the_encoder(seed: int, log_r: float, far: float) -> None:
    generator = np.random.default_rng(seed)
    shape = tuple(int(n) for n in generator.integers(1, 7, 3))
    d = (generator.normal(size=shape) * far).astype(np.float32)
    r = np.exp(generator.normal(log_r, 0.7, shape)).astype(np.float32)
    coded = rejection(4).encode(d, r, SharedRandom(seed, 3))
    values = rejection(4).decode(coded.data, shape, SharedRandom(seed, 3))  # type: ignore[arg-type]
    np.testing.assert_array_equal(values.view(np.uint32), coded.values.view(np.uint32))
    assert np.isfinite(values).all()
    assert 0 <= coded.side_bits <= 8 * len(coded.data)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_give_a_sample_or_a_named_error(data: bytes) -> None:
    try:
        values = rejection().decode(data, (3, 8, 11), SharedRandom(0, 0))
    except BadFile:
        return
    assert values.shape == (3, 8, 11)
    assert np.isfinite(values).all()


def test_cut_streams_are_refused() -> None:
    d, r = synthetic_level((8, 12, 12))
    data = rejection().encode(d, r, SharedRandom(1, 0)).data
    for size in (0, 1, len(data) // 2, len(data) - 1):
        with pytest.raises(BadStream):
            rejection().decode(data[:size], (8, 12, 12), SharedRandom(1, 0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0])
def test_targets_that_are_none(bad: float) -> None:
    d, r = np.zeros((1, 2, 2), np.float32), np.ones((1, 2, 2), np.float32)
    r[0, 1, 1] = bad
    with pytest.raises(ValueError, match="finite"):
        rejection().encode(d, r, SharedRandom(0, 0))


def test_the_preset_codes_pictures() -> None:
    plugins = load_plugins()
    registry = load_registry(plugins, Path(__file__).parents[1] / "registry.yaml")
    codec = open_codec(plugins, registry.preset("pln-rejection"))
    y, x = np.mgrid[:64, :64]
    pixels = np.stack([x * 2, y * 3, 128 + 60 * np.sin(x / 9)], 2).clip(0, 255).astype(np.uint8)
    encoded = codec.encode(pixels, 0.5)
    np.testing.assert_array_equal(codec.decode(encoded.data).pixels, encoded.reconstruction)
