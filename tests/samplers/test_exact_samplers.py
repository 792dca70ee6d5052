"""The exact samplers without a budget: greedy rejection (``harsha``) and A* coding (``astar``)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from scipy.stats import norm

from toolkit import load
from toolkit.codec.base import as_pixels
from toolkit.errors import UsageError
from toolkit.format.errors import BadFile, BadStream
from toolkit.options import parse_options
from toolkit.plugin.loader import load_plugins
from toolkit.sampling.coding.bits import BitReader, BitWriter
from toolkit.sampling.coding.integers import read_integers
from toolkit.sampling.contract import Sampler, kl_bits
from toolkit.sampling.figure_of_merit import figure_of_merit
from toolkit.sampling.randomness import SharedRandom, normal_table
from toolkit.testing import check_sampler
from toolkit.testing.exactness import deviation
from toolkit_evaluation.data.datasets import sample_paths
from toolkit_evaluation.data.synthetic import synthetic_level
from toolkit_plugins.samplers.exact.astar import LENGTHS
from toolkit_plugins.samplers.exact.targets import Targets
from toolkit_plugins.samplers.exact.units import Units, choose_units, read_units, write_units
from toolkit_plugins.samplers.exact.weights import heaviest, log_weights, mass, mass_left

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
        *[(1.53, 1.0), (-2.5, 1.0), (1.4, 1.2), (0.0, 3.0), (-3.2, 0.9), (2.5, 1.6), (9.0, 1.0)],
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
    most = largest_bits(d, r)
    if most > 2:  # else blocks are longer
        one = numbers_of("astar", d, r, bits=int(max(most + 1, 3)))
        assert np.log2(one).mean() < kl + np.log2(np.e) / np.e + 1


def test_the_mean_number_of_draws_is_the_largest_weight() -> None:
    """Of greedy rejection: E K = max Q / P."""
    numbers = numbers_of("harsha", 1.0, 0.5, bits=8)
    assert numbers.mean() == pytest.approx(2.0 ** largest_bits(1.0, 0.5), rel=0.1)


def targets(d: float, r: float, low: float = -np.inf, high: float = np.inf) -> Targets:
    """One, of N(d, r^2) on an interval."""
    one = [np.array([float(x)]) for x in (d, r, low, high)]
    return Targets(*one, mass(*one))


def largest_bits(d: float, r: float) -> float:
    return float(targets(d, r).largest_bits()[0])


@given(
    st.floats(-6, 6),
    st.one_of(st.just(0.9999), st.floats(1e-3, 20)).filter(lambda r: abs(r - 1) > 1e-5),
    st.lists(st.floats(-4.2, 4.2), min_size=2, max_size=2, unique=True).map(sorted),
)
@settings(max_examples=200, deadline=None)
def test_no_weight_in_the_interval_is_larger_than_the_largest(
    d: float, r: float, interval: list[float]
) -> None:
    draws = normal_table().astype(float)
    within = draws[(draws >= interval[0]) & (draws <= interval[1])]
    assume(len(within))
    one = [np.array([x]) for x in (d, r, *interval)]
    at = heaviest(*one)[0]
    assert interval[0] <= at <= interval[1]
    assert log_weights(d, r, within).max() <= log_weights(d, r, at) + 1e-9


@given(
    st.floats(-4, 4),
    st.floats(0.05, 3).filter(lambda r: abs(r - 1) > 1e-3),
    st.floats(0.1, 50),
    st.lists(st.floats(-5, 5), min_size=2, max_size=2).map(sorted),
)
@settings(max_examples=60, deadline=None)
def test_what_is_left_of_a_part_of_the_target(
    d: float, r: float, s: float, interval: list[float]
) -> None:
    """Against the integral of (Q - s P)^+ by quadrature."""
    x = np.linspace(*interval, 20_001)
    rest = np.maximum(norm.pdf(x, d, r) - s * norm.pdf(x), 0)
    assert abs(float(mass_left(d, r, s, *interval)) - trapezoid(rest, x)) < 1e-4


@pytest.mark.parametrize(
    ("d", "r"), [(1.53, 1.0), (-1.53, 0.999), (1.4, 1.2), (0.0, 2.0), (-2.5, 0.9), (3.0, 0.3)]
)
def test_parts_of_a_target_have_their_masses(d: float, r: float) -> None:
    """The encoder's toss: units for as many latent elements as the ends of Q have mass."""
    level = np.full((1, 200, 200), d, np.float32), np.full((1, 200, 200), r, np.float32)
    units, found = choose_units(*level, 8, np.random.default_rng(0))
    share = 1 - found.mass[np.setdiff1d(np.arange(40_000), units.places)[:1]]
    if len(units.places) == 40_000:  # more than a quarter lies out of reach
        share = np.ones(1)
    assert abs(len(units.places) / 40_000 - share[0]) < 5 * np.sqrt(0.25 / 40_000)
    assert found.largest_bits()[: -len(units.places)].max(initial=0) <= 8.5
    assert np.all(found.low < found.high)


@given(st.integers(0, 2**31), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_units_bring_all_targets_near(seed: int, bits: int) -> None:
    generator = np.random.default_rng(seed)
    d = (generator.normal(size=(2, 3, 9)) * np.exp(generator.normal(0, 4))).astype(np.float32)
    r = np.exp(generator.normal(-1, 4, d.shape)).astype(np.float32)
    units, found = choose_units(d, r, max(bits, 2), generator)
    rest = np.setdiff1d(np.arange(d.size), units.places)
    assert np.all(found.largest_bits()[rest] <= max(bits, 2) + 0.5)
    assert np.all(found.r[units.places] <= 0.7)
    again = round_trip(units, d.size)
    for kept, read in zip(vars(units).values(), vars(again).values(), strict=True):
        np.testing.assert_array_equal(kept, read)
    whole = np.isinf(found.low) & np.isinf(found.high)
    back = units.values(found.d.astype(np.float32))
    scale = np.maximum(np.abs(d.ravel()), r.ravel())
    assert np.all((np.abs(back - d.ravel()) <= 1e-4 * scale + 1e-30)[whole])


def round_trip(units: Units, count: int) -> Units:
    writer = BitWriter()
    write_units(writer, units, count)
    reader = BitReader(writer.data())
    again = read_units(reader, count)
    reader.finish()
    return again


def test_units_of_the_first_version_are_read() -> None:
    writer = BitWriter()
    writer.gamma(2)
    writer.increasing(np.array([3, 8]), 10)
    writer.write([32 - 2, 32 + 5], 6)
    writer.write([1, 0], 1)
    writer.gamma([7, 100])
    units = read_units(BitReader(writer.data()), 10)
    assert [x.tolist() for x in vars(units).values()] == [[3, 8], [-2, 5], [-7, 100]]
    for count, message in ((12, "version"), (10, "places|wanted")):
        writer = BitWriter()
        writer.gamma(count)
        writer.write(0, 40)
        with pytest.raises(BadStream, match=message):
            read_units(BitReader(writer.data()), 10)


def bound(kl: np.ndarray) -> float:
    """KL + 2 log2(KL + 1) + 2, on average."""
    return float(np.mean(kl + 2 * np.log2(kl + 1) + 2))


@each
@pytest.mark.parametrize(
    ("d", "r"),
    [
        *[(0.0, 1.0), (0.1, 1.001), (1.53, 1.0), (1.53, 0.999), (1.4, 1.2), (1.0, 1.6)],
        *[(0.0, 3.0), (2.5, 0.9), (3.5, 0.8), (3.0, 0.3), (2.0, 0.01), (6.0, 1.0), (0.0, 20.0)],
    ],
)
def test_wide_targets_cost_what_normal_ones_do(name: str, d: float, r: float) -> None:
    shape = (2, 40, 50)
    level = np.full(shape, d, np.float32), np.full(shape, r, np.float32)
    coded = sampler(name).encode(*level, SharedRandom(1, 0))
    assert 8 * len(coded.data) / 4000 < bound(np.maximum(kl_bits(*level), 0))


@pytest.fixture(scope="module")
def real_levels() -> list[tuple[np.ndarray, np.ndarray]]:
    """Levels of the weights that ship, for a photograph; and with their priors refined, which
    makes some targets wider than the prior."""
    path = next(path for path in sample_paths() if path.stem == "astronaut")
    photograph = np.ascontiguousarray(as_pixels(path)[:384, :512])
    codec = load("pln-fast")
    levels = []
    for point in (0.0, 0.5, 1.0):
        for target in codec.targets(photograph, point):
            d, r = target.d, target.r
            m, s = refined_prior(d, r)
            levels += [(d, r), ((d - m) / s, r / s)]
    return levels


def refined_prior(d: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    m = d.mean(axis=(1, 2), keepdims=True)
    return m, np.sqrt(np.mean((d - m) ** 2 + r**2, axis=(1, 2), keepdims=True))


@each
def test_on_average_over_real_levels(
    name: str, real_levels: list[tuple[np.ndarray, np.ndarray]]
) -> None:
    """Bits of a block, and of the bound; ``-rP`` shows them."""
    sent, allowed, count = 0, 0.0, 0
    for d, r in real_levels:
        data = sampler(name).encode(d, r, SharedRandom(1, 0)).data
        blocks = blocks_of(name, d, r, data)
        sent, allowed = sent + 8 * len(data), allowed + bound(blocks) * len(blocks)
        count += len(blocks)
    print(f"{name}: {sent / count:.2f} bits a block, bound {allowed / count:.2f}, {count} blocks")
    assert sent < allowed


def blocks_of(name: str, d: np.ndarray, r: np.ndarray, data: bytes) -> np.ndarray:
    """KL of the blocks of a coded level, in bits; those of ``harsha`` are single elements."""
    kl = np.maximum(kl_bits(d, r), 0).reshape(len(d), -1)
    if name == "harsha":
        found: np.ndarray = kl.ravel()
        return found
    reader = BitReader(data)
    read_units(reader, d.size)
    lengths = [LENGTHS[code] for code in reader.read(4, len(d))]
    starts = [np.arange(0, kl.shape[1], length) for length in lengths]
    return np.concatenate([np.add.reduceat(*one) for one in zip(kl, starts, strict=True)])


def test_harsha_on_real_levels(real_levels: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Also of the latent elements of about one divergence, by themselves: a surplus on those of
    low KL doesn't pay for what others take."""
    d, r = (np.concatenate([level[i].ravel() for level in real_levels]) for i in (0, 1))
    assert np.mean(r > 1) > 1e-3
    kl = np.maximum(kl_bits(d, r), 0)
    edges = [0, 0.01, 0.1, 0.5, 1, 2, 4, 8, np.inf]
    for low, high in pairwise(edges):
        which = np.flatnonzero((kl >= low) & (kl < high))[:20_000]
        for part in (which, which[r[which] > 0.9]):
            if len(part) > 200:
                one = d[part].reshape(1, 1, -1), r[part].reshape(1, 1, -1)
                coded = sampler("harsha").encode(*one, SharedRandom(1, 0))
                assert 8 * len(coded.data) / len(part) < bound(kl[part]), (low, high)


def test_astar_on_real_levels(real_levels: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Blocks by their own divergence."""
    for d, r in real_levels:
        coded = sampler("astar").encode(d, r, SharedRandom(1, 0))
        found = blocks_of("astar", d, r, coded.data)
        assert 8 * len(coded.data) / len(found) < bound(found)


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
    with pytest.raises(UsageError, match="finite"):
        sampler(name).encode(d, r, SharedRandom(0, 0))
