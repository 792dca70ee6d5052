"""The exact samplers without a budget: greedy rejection (``harsha``) and A* coding (``astar``)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.format.errors import BadFile, BadStream
from toolkit.options import parse_options
from toolkit.plugin.loader import load_plugins
from toolkit.sampling.coding.bits import BitReader, BitWriter
from toolkit.sampling.coding.integers import read_integers
from toolkit.sampling.contract import Sampler, kl_bits
from toolkit.sampling.figure_of_merit import figure_of_merit
from toolkit.sampling.randomness import SharedRandom
from toolkit.testing import check_sampler
from toolkit.testing.exactness import deviation
from toolkit_evaluation.data.synthetic import synthetic_level
from toolkit_plugins.samplers.exact.units import choose_units, read_units, write_units
from toolkit_plugins.samplers.exact.weights import REACH, heaviest, largest_log2, weights

PLUGINS = load_plugins()
NAMES = ("harsha", "astar")
each = pytest.mark.parametrize("name", NAMES)


def sampler(name: str, **options: object) -> Sampler:
    cls = PLUGINS.sampler(name).loaded
    found: Sampler = cls(parse_options(cls.options_class, options, name))
    return found


@each
def test_conformance(name: str) -> None:
    report = check_sampler(name, targets=30, damaged=60)
    assert report.exact
    assert "exactness" in report.checks


@each
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    ("d", "r"),
    [
        *[(0.0, 1.0), (0.3, 1.0), (1e-3, 0.9999), (0.4, 1.1), (0.0, 1.6), (-3.0, 5.0)],
        *[(-2.0, 0.5), (1.0, 0.1), (5.0, 0.7), (0.7, 1e-5), (1e4, 0.01), (1e4, 40.0)],
    ],
)
def test_exact_wherever_the_target_is(name: str, bits: int, d: float, r: float) -> None:
    """Narrow and far ones, wide ones and those as wide as the prior."""
    d, r = float(np.float32(d)), float(np.float32(r))
    shape = (2, 60, 100)
    targets = np.full(shape, d, np.float32), np.full(shape, r, np.float32)
    values = sampler(name, bits=bits).encode(*targets, SharedRandom(3, 0)).values
    grain = abs(np.spacing(np.float32(d))) / r / 2  # of float32 next to d
    draws = (values.ravel().astype(float) - d) / r
    rounded = draws + np.random.default_rng(0).uniform(-grain, grain, draws.shape)
    assert deviation(rounded, seed=1) == ""


@each
def test_exact_where_targets_differ(name: str) -> None:
    """Latents of a block have targets of their own."""
    d, r = synthetic_level((16, 40, 40), top=3.0)
    values = sampler(name).encode(d, r, SharedRandom(2, 0)).values
    assert deviation(((values.astype(float) - d) / r).ravel(), seed=1) == ""
    shuffled = np.random.default_rng(0).permutation(16)
    assert deviation(((values.astype(float) - d) / r)[shuffled].T.ravel(), seed=1) == ""


def numbers_of(name: str, d: float, r: float, **options: object) -> np.ndarray:
    """Numbers of the draws, from 1, of 20,000 latents or blocks."""
    targets = np.full((1, 100, 200), d, np.float32), np.full((1, 100, 200), r, np.float32)
    reader = BitReader(sampler(name, **options).encode(*targets, SharedRandom(4, 0)).data)
    read_units(reader, 20_000)
    if name == "harsha":
        return reader.delta(20_000) + 1
    assert reader.number(4) == 0  # blocks of one latent
    return read_integers(reader, 20_000) + 1


@pytest.mark.parametrize(("d", "r"), [(0.5, 0.8), (1.0, 0.5), (-1.5, 0.1), (0.0, 0.05)])
def test_the_number_takes_the_divergence_and_little_more(d: float, r: float) -> None:
    """E log2 K <= KL + O(1) (Harsha et al. 2007); KL + log2(e) / e + 1 for Poisson's (Li and
    El Gamal 2018)."""
    kl = float(kl_bits(np.array([d]), np.array([r]))[0])
    assert np.log2(numbers_of("harsha", d, r)).mean() < kl + 1.6
    most = float(largest_log2(np.array([d]), np.array([r]))[0])
    if most > 2:  # else blocks are longer
        one = numbers_of("astar", d, r, bits=int(max(most + 1, 3)))
        assert np.log2(one).mean() < kl + np.log2(np.e) / np.e + 1


def test_the_mean_number_of_draws_is_the_largest_weight() -> None:
    """Of greedy rejection: E K = max Q / P."""
    numbers = numbers_of("harsha", 1.0, 0.5, bits=8)
    largest = 2.0 ** float(largest_log2(np.array([1.0]), np.array([0.5]))[0])
    assert numbers.mean() == pytest.approx(largest, rel=0.1)


@given(st.floats(-6, 6), st.one_of(st.just(1.0), st.floats(1e-3, 20)))
@settings(max_examples=200, deadline=None)
def test_no_weight_within_reach_is_larger_than_the_largest(d: float, r: float) -> None:
    d_, r_ = np.array([d]), np.array([r])
    x = np.append(np.linspace(-REACH, REACH, 2001), np.clip(d, -REACH, REACH))
    bound = 2.0 ** largest_log2(d_, r_)[0]
    assert weights(d_, r_, x).max() <= bound * (1 + 1e-6)
    assert np.abs(heaviest(d_, r_)[0]) <= REACH


@given(st.integers(0, 2**31), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_units_bring_all_targets_near(seed: int, bits: int) -> None:
    generator = np.random.default_rng(seed)
    d = (generator.normal(size=(2, 3, 9)) * np.exp(generator.normal(0, 4))).astype(np.float32)
    r = np.exp(generator.normal(-1, 4, d.shape)).astype(np.float32)
    units, mean, width = choose_units(d, r, max(bits, 2))
    assert np.all(largest_log2(mean, width) <= max(bits, 2))
    assert np.all(width[units.places] <= 0.7)
    writer = BitWriter()
    write_units(writer, units, d.size)
    again = read_units(BitReader(writer.data()), d.size)
    for kept, read in zip(vars(units).values(), vars(again).values(), strict=True):
        np.testing.assert_array_equal(kept, read)
    back = units.values(mean.astype(np.float32))
    scale = np.maximum(np.abs(d.ravel()), r.ravel())
    assert np.all(np.abs(back - d.ravel()) <= 1e-5 * scale + 1e-30)


@given(st.lists(st.integers(0, 2**45), max_size=40))
@settings(max_examples=100, deadline=None)
def test_elias_delta_code(numbers: list[int]) -> None:
    writer = BitWriter()
    writer.delta(np.array(numbers, np.int64))
    lengths = [(n + 1).bit_length() - 1 for n in numbers]
    assert writer.bits == sum(n + 2 * ((n + 1).bit_length() - 1) + 1 for n in lengths)
    reader = BitReader(writer.data())
    assert reader.delta(len(numbers)).tolist() == numbers
    reader.finish()


def test_blocks_cost_less_than_latents_by_themselves() -> None:
    """An index has an overhead, so fewer and larger blocks are better; all are exact."""
    d, r = synthetic_level((48, 24, 24))
    merits = [
        figure_of_merit(d, r, coded.values, 8 * len(coded.data))
        for coded in (
            sampler(name, **options).encode(d, r, SharedRandom(1, 0))
            for name, options in (("harsha", {}), ("astar", {"bits": 5}), ("astar", {}))
        )
    ]
    assert merits[0].rate_percent > merits[1].rate_percent > merits[2].rate_percent
    assert all(abs(merit.excess_percent) < 3 for merit in merits)


@each
@given(data=st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_give_a_sample_or_a_named_error(name: str, data: bytes) -> None:
    try:
        values = sampler(name).decode(data, (3, 8, 11), SharedRandom(0, 0))
    except BadFile:
        return
    assert values.shape == (3, 8, 11)
    assert np.isfinite(values).all()


@each
def test_cut_streams_are_refused(name: str) -> None:
    d, r = synthetic_level((8, 12, 12))
    data = sampler(name).encode(d, r, SharedRandom(1, 0)).data
    for size in (0, 1, len(data) // 2, len(data) - 1):
        with pytest.raises(BadStream):
            sampler(name).decode(data[:size], (8, 12, 12), SharedRandom(1, 0))


@each
@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0])
def test_targets_that_are_none(name: str, bad: float) -> None:
    d, r = np.zeros((1, 2, 2), np.float32), np.ones((1, 2, 2), np.float32)
    r[0, 1, 1] = bad
    with pytest.raises(ValueError, match="finite"):
        sampler(name).encode(d, r, SharedRandom(0, 0))
