"""Prior refinement, in front of any sampler."""

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
from toolkit.sampling.capabilities import CountsIndices, FitsBytes
from toolkit.sampling.choice import SamplerChoice, pack_choice, read_choice
from toolkit.sampling.figure_of_merit import figure_of_merit
from toolkit.sampling.prior_refinement import PriorRefined, choose_refinement, refine_prior
from toolkit.sampling.randomness import SharedRandom
from toolkit_evaluation.data.synthetic import synthetic_level
from toolkit_plugins.samplers.trellis.sampler import Trellis, TrellisOptions

SHAPE = (16, 16, 20)


def refined(name: str = "trellis", **options: object) -> PriorRefined:
    values = {"sampler": name, "refine": True, **options}
    sampler = SamplerChoice.from_options(load_plugins(), values, "test").build()
    assert isinstance(sampler, PriorRefined)
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
    none = choose_refinement(d * 0, np.ones_like(r))
    assert not none.means.any()
    assert not none.scales.any()
    plain = refined().inner.encode(d * 0, np.ones_like(r), SharedRandom(0, 1)).data
    assert refined().encode(d * 0, np.ones_like(r), SharedRandom(0, 1)).data == b"\0" + plain


def test_refinement_is_the_nearest_to_the_moments():
    d = np.full((2, 30, 30), 0.5, np.float32)
    d[1] = -1.25
    r = np.full(d.shape, 0.25, np.float32)
    refinement = choose_refinement(d, r)
    assert refinement.means.tolist() == [16, -40]
    assert refinement.scales.tolist() == [-16, -16]


def test_budget_passes_through():
    d, r = wrong_prior()
    coded = refined(nu=8).encode_within(d, r, SharedRandom(0, 1), 700)
    assert len(coded.data) == 700
    assert isinstance(refined(), FitsBytes)


def test_index_counts_pass_through():
    """Those of the refined targets."""
    d, r = wrong_prior()
    sampler = refined("rejection", bits=4)
    assert isinstance(sampler, CountsIndices)
    counts = sampler.count_indices(d, r, SharedRandom(0, 1))
    target = d.copy(), r.copy()
    choose_refinement(d, r).standardise(*target)
    behind = sampler.inner.count_indices(*target, SharedRandom(0, 1))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(counts, behind)
    assert not np.array_equal(counts, sampler.inner.count_indices(d, r, SharedRandom(0, 1)))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(load_plugins().samplers))
def test_what_a_sampler_can_do_it_can_behind_a_refinement(name: str):
    sampler = refined(name)
    inner = sampler.inner
    for capability in (FitsBytes, CountsIndices):
        assert isinstance(sampler, capability) == isinstance(inner, capability)
    assert sampler.exact == inner.exact
    assert sampler.options == inner.options
    sampler.threads = 3
    assert sampler.threads == getattr(inner, "threads", None)


def test_a_sampler_that_fits_bytes_and_counts_indices_does_both_behind_a_refinement():
    class Both(Trellis):
        def count_indices(self, d, r, random):
            return np.array([d.size])

    sampler = refine_prior(Both(TrellisOptions(nu=8)))
    assert isinstance(sampler, FitsBytes)
    assert isinstance(sampler, CountsIndices)
    d, r = wrong_prior()
    assert sampler.count_indices(d, r, SharedRandom(0, 1)) == [d.size]
    assert len(sampler.encode_within(d, r, SharedRandom(0, 1), 700).data) == 700


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


def test_choices_in_released_files_are_the_same_bytes():
    """Prior refinement stands at place -1, options of the sampler at theirs."""
    plugins = load_plugins()
    for values, data in (
        ({"sampler": "trellis"}, "00"),
        ({"sampler": "trellis", "refine": True}, "0381ffc3"),
        ({"sampler": "trellis", "refine": True, "nu": 14}, "0582000effc3"),
    ):
        choice = SamplerChoice.from_options(plugins, values, "test")
        assert pack_choice(choice).hex() == data
        assert read_choice(plugins, "tc", bytes.fromhex(data))[0] == choice


@pytest.mark.parametrize("data", ["0381fec3", "03810fc3", "0381ff07", "0281ff", "0501020304ff"])
def test_choices_that_no_encoder_wrote(data: str):
    with pytest.raises(BadStream, match="options can't be read"):
        read_choice(load_plugins(), "tc", bytes.fromhex(data))


def test_option_is_true_or_false():
    with pytest.raises(UsageError, match="Expected `bool`, got `int` - at `refine`"):
        refined(refine=3)
