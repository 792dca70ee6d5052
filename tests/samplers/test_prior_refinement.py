"""Refinement of the prior, in front of any sampler."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import UsageError
from toolkit.format.errors import BadStream
from toolkit.plugin.loader import load_plugins
from toolkit.sampling.choice import SamplerChoice, pack_choice, read_choice
from toolkit.sampling.figure_of_merit import figure_of_merit
from toolkit.sampling.prior_refinement import Refined, choose_refinement
from toolkit.sampling.randomness import SharedRandom
from toolkit_evaluation.data.synthetic import synthetic_level

SHAPE = (16, 16, 20)


def refined(name: str = "trellis", **options: object) -> Refined:
    values = {"sampler": name, "refine": True, **options}
    sampler = SamplerChoice.from_options(load_plugins(), values, "test").build()
    assert isinstance(sampler, Refined)
    return sampler


def wrong_prior() -> tuple[np.ndarray, np.ndarray]:
    """A level whose channels differ from the prior in mean and scale."""
    d, r = synthetic_level(SHAPE, top=2.0)
    generator = np.random.default_rng(0)
    scale = np.exp(generator.normal(-0.5, 0.3, (16, 1, 1))).astype(np.float32)
    return d * scale + generator.normal(0, 0.7, (16, 1, 1)).astype(np.float32), r * scale


@pytest.mark.parametrize("name", ["trellis", "importance", "greedy"])
def test_round_trip_and_gain(name: str):
    d, r = wrong_prior()
    sampler = refined(name)
    coded = sampler.encode(d, r, SharedRandom(0, 1))
    values = refined(name).decode(coded.data, SHAPE, SharedRandom(0, 1))
    np.testing.assert_array_equal(values.view(np.uint32), coded.values.view(np.uint32))
    plain = sampler.inner.encode(d, r, SharedRandom(0, 1))
    with_it = figure_of_merit(d, r, coded.values, 8 * len(coded.data))
    without = figure_of_merit(d, r, plain.values, 8 * len(plain.data))
    assert with_it.j_percent < without.j_percent - 10
    assert coded.side_bits > 16 * 8


def test_calibrated_prior_is_left_alone():
    d, r = synthetic_level(SHAPE, top=1.0, variation=0.0)
    means, scales = choose_refinement(d * 0, np.ones_like(r))
    assert not means.any()
    assert not scales.any()
    plain = refined().inner.encode(d * 0, np.ones_like(r), SharedRandom(0, 1)).data
    assert refined().encode(d * 0, np.ones_like(r), SharedRandom(0, 1)).data == b"\0" + plain


def test_refinement_is_the_nearest_to_the_moments():
    d = np.full((2, 30, 30), 0.5, np.float32)
    d[1] = -1.25
    r = np.full(d.shape, 0.25, np.float32)
    means, scales = choose_refinement(d, r)
    assert means.tolist() == [16, -40]
    assert scales.tolist() == [-16, -16]


def test_budget_passes_through():
    d, r = wrong_prior()
    coded = refined(nu=8).encode_within(d, r, SharedRandom(0, 1), 700)
    assert len(coded.data) == 700
    with pytest.raises(UsageError, match="within a number of bytes"):
        refined("greedy").encode_within(d, r, SharedRandom(0, 1), 700)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_a_sample_or_a_bad_stream(data: bytes):
    try:
        values = refined(nu=8).decode(data, (3, 8, 5), SharedRandom(0, 0))
    except BadStream:
        return
    assert values.shape == (3, 8, 5)
    assert np.isfinite(values).all()


@given(st.integers(0, 2**31), st.floats(0.001, 1e5), st.floats(-8, 3))
@settings(max_examples=50, deadline=None)
def test_extreme_targets(seed: int, far: float, log_r: float):
    generator = np.random.default_rng(seed)
    d = (generator.normal(size=(3, 5, 4)) * far).astype(np.float32)
    r = np.exp(generator.normal(log_r, 1, d.shape)).astype(np.float32)
    coded = refined(nu=8).encode(d, r, SharedRandom(seed, 1))
    values = refined(nu=8).decode(coded.data, d.shape, SharedRandom(seed, 1))
    np.testing.assert_array_equal(values, coded.values)


def test_golden_stream():
    case = json.loads((Path(__file__).parents[1] / "golden" / "refinement.json").read_text())
    values = refined(**case["options"]).decode(
        bytes.fromhex(case["data"]), tuple(case["shape"]), SharedRandom(7, 1)
    )
    assert hashlib.sha256(values.tobytes()).hexdigest() == case["values"]


@pytest.mark.parametrize("refine", [True, False])
def test_choice_is_kept_in_files(refine: bool):
    plugins = load_plugins()
    values = {"sampler": "trellis", "nu": 9, "refine": refine}
    choice = SamplerChoice.from_options(plugins, values, "test")
    again, rest = read_choice(plugins, "tc", pack_choice(choice) + b"rest")
    assert again == choice
    assert again.config() == choice.config()
    assert rest == b"rest"


def test_option_is_true_or_false():
    with pytest.raises(UsageError, match="'refine' is true or false, not 3"):
        refined(refine=3)
