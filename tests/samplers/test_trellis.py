"""The trellis sampler: its figures, its stream, its promises."""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from toolkit.errors import UsageError
from toolkit.format.errors import BadStream
from toolkit.sampling.capabilities import with_guesses
from toolkit.sampling.coding.bits import BitReader, BitWriter
from toolkit.sampling.contract import Sampler, kl_bits
from toolkit.sampling.figure_of_merit import figure_of_merit
from toolkit.sampling.randomness import SharedRandom
from toolkit.testing import check_sampler
from toolkit_evaluation.data.synthetic import synthetic_level
from toolkit_plugins.samplers.trellis import rates
from toolkit_plugins.samplers.trellis.rates import Profile, choose_profile, table
from toolkit_plugins.samplers.trellis.sampler import Trellis, TrellisOptions
from toolkit_plugins.samplers.trellis.table import value_table

GOLDEN = Path(__file__).parents[1] / "golden" / "trellis"


def trellis(**options: float) -> Trellis:
    return Trellis(TrellisOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"nu": 8, "refine": True},
        {"nu": 10, "segment": 256},
        {"scale": 0.5},
        {"nu": 9, "layout": 2},
    ],
)
def test_conformance(options: dict[str, float]):
    report = check_sampler("trellis", options, targets=100, damaged=200)
    assert report.refused < report.damaged  # damage reaches the decoder's walk, too
    assert abs(report.mean_bias) < 0.1 or "scale" in options


@pytest.mark.slow
def test_conformance_with_many_states_and_latents():
    check_sampler("trellis", {"nu": 16}, targets=30)
    check_sampler("trellis", targets=300, slow=True)


def levels() -> st.SearchStrategy[tuple[np.ndarray, np.ndarray, int]]:
    shapes = st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9))

    def level(shape: tuple[int, int, int], seed: int, log_r: float, far: float):
        generator = np.random.default_rng(seed)
        r = np.exp(generator.normal(log_r, 0.5, shape))
        d = generator.normal(size=shape) * far
        return d.astype(np.float32), r.astype(np.float32), seed

    return st.builds(
        level, shapes, st.integers(0, 2**31), st.floats(-12, 2), st.sampled_from([0.1, 1, 5, 1e5])
    )


@given(levels(), st.integers(8, 10), st.integers(256, 300), st.integers(1, 2))
@settings(max_examples=200, deadline=None)
def test_decoder_repeats_the_encoder(level, nu: int, segment: int, layout: int):
    d, r, seed = level
    sampler = trellis(nu=nu, segment=segment, layout=layout)
    coded = sampler.encode(d, r, SharedRandom(seed, 3))
    values = sampler.decode(coded.data, d.shape, SharedRandom(seed, 3))
    np.testing.assert_array_equal(values.view(np.uint32), coded.values.view(np.uint32))


@given(st.binary(max_size=300), st.integers(8, 16), st.integers(1, 2))
@settings(max_examples=400, deadline=None)
def test_any_bytes_give_a_sample_or_a_bad_stream(data: bytes, nu: int, layout: int):
    try:
        values = trellis(nu=nu, layout=layout).decode(data, (3, 8, 11), SharedRandom(0, 0))
    except BadStream:
        return
    assert values.shape == (3, 8, 11)
    assert np.isfinite(values).all()


def test_figure_of_merit_falls_with_the_states():
    d, r = synthetic_level((64, 32, 24), variation=0.3)
    merits = []
    for nu in (8, 10, 12):
        coded = trellis(nu=nu).encode(d, r, SharedRandom(1, 0))
        merits.append(figure_of_merit(d, r, coded.values, 8 * len(coded.data)))
    j = [merit.j_percent for merit in merits]
    assert j[0] > j[1] > j[2]
    assert j[2] < 9
    assert -1 < merits[2].rate_percent < 4


def test_side_information_is_counted():
    d, r = synthetic_level((64, 32, 24))
    coded = trellis(nu=8).encode(d, r, SharedRandom(1, 0))
    indices = 8 * len(coded.data) - coded.side_bits
    assert abs(indices / kl_bits(d, r).sum() - 1) < 0.15
    assert coded.side_bits > 64 * 5


def test_far_targets_are_met():
    d, r = np.zeros((4, 16, 16), np.float32), np.full((4, 16, 16), 0.9, np.float32)
    d[0, 3, 5], d[2, 0, 0], d[3, 15, 15] = 40, -7, 1000
    coded = trellis().encode(d, r, SharedRandom(1, 0))
    far = np.abs(d) > 1
    assert np.abs(coded.values - d)[far].max() < 3
    assert 8 * len(coded.data) < kl_bits(d, r)[~far].sum() + 3 * 60 + 100


def test_values_are_of_the_prior_where_nothing_is_known():
    shape = (2, 200, 200)
    d, r = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    coded = trellis().encode(d, r, SharedRandom(1, 0))
    assert coded.data == b""
    assert abs(coded.values.mean()) < 0.02
    assert abs(coded.values.std() - 1) < 0.02
    other = trellis().encode(d, r, SharedRandom(2, 0)).values
    assert np.mean(other == coded.values) < 0.01


def mostly_quiet() -> tuple[np.ndarray, np.ndarray]:
    """A level whose channels hold next to nothing, but for four of them in one half."""
    d, r = synthetic_level((32, 32, 32), top=2.0)
    d[4:] *= 0.02
    r[4:] = 1 - (1 - r[4:]) * 0.0004
    d[:4, :, :16] *= 0.02
    r[:4, :, :16] = 1 - (1 - r[:4, :, :16]) * 0.0004
    return d, r


def test_layout_2_sends_nothing_of_what_holds_nothing():
    shape = (2, 40, 40)
    d, r = np.full(shape, 0.01, np.float32), np.full(shape, 0.9999, np.float32)
    coded = trellis(layout=2).encode(d, r, SharedRandom(1, 0))
    assert coded.data == b""
    assert not coded.values.any()
    d[1, 3, 5] = 1000
    coded = trellis(layout=2).encode(d, r, SharedRandom(1, 0))
    assert len(coded.data) < 16
    assert np.flatnonzero(coded.values).tolist() == [1600 + 3 * 40 + 5]


def test_layout_2_has_less_side_information_and_excess_where_little_is_held():
    d, r = mostly_quiet()
    coded, merits = [], []
    for layout in (1, 2):
        coded.append(trellis(nu=10, layout=layout).encode(d, r, SharedRandom(1, 0)))
        bits = 8 * len(coded[-1].data)
        merits.append(figure_of_merit(d, r, coded[-1].values, bits).j_percent)
    assert coded[1].side_bits < 0.7 * coded[0].side_bits
    assert merits[1] < merits[0]
    assert not coded[1].values[4:].any()
    assert coded[1].values[0, :, 16:].all()


@given(levels(), st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_budget_in_layout_2(level, spare: int):
    d, r, seed = level
    sampler = trellis(nu=8, layout=2)
    random = SharedRandom(seed, 1)
    budget = len(sampler.encode(d, r, random).data) + spare
    try:
        coded = sampler.encode_within(d, r, random, budget)
    except UsageError:  # a scale that hits a size takes two bytes more
        assert spare < 2
        return
    assert len(coded.data) <= budget
    np.testing.assert_array_equal(sampler.decode(coded.data, d.shape, random), coded.values)


@pytest.mark.parametrize("nu", [8, 12])
def test_table_is_normal_and_stratified(nu: int):
    table = value_table(nu)
    assert abs(table[: 2**18].mean()) < 0.01
    assert abs(table[: 2**18].std() - 1) < 0.01
    for bits in (1, 2, 5, 8):
        rows = table[: 2**18].reshape(-1, 2**bits)
        parts = np.sort((ndtr(rows) * 2**bits).astype(int), axis=1)
        np.testing.assert_array_equal(parts, np.broadcast_to(np.arange(2**bits), parts.shape))


def test_table_is_pinned():
    assert hashlib.sha256(value_table(10).tobytes()).hexdigest()[:16] == "8c5023076e9199d4"


def test_scale_of_rates_is_pinned():
    assert hashlib.sha256(table().tobytes()).hexdigest()[:16] == "6beed7a74a8d83f3"


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 20), st.integers(1, 20)),
    st.integers(0, 5),
    st.integers(0, 2**31),
    st.floats(-12, 12),
)
@settings(max_examples=100, deadline=None)
def test_profile_is_read_as_written(shape, exponent: int, seed: int, size: float):
    tiles = -(-shape[1] >> exponent) * -(-shape[2] >> exponent)
    bits = np.exp(np.random.default_rng(seed).normal(size, 3, (shape[0], tiles)))
    for layout in (1, 2):
        check_profile(choose_profile(bits, exponent, shape, 1.0, layout))


def check_profile(profile: Profile) -> None:
    out = BitWriter()
    profile.write(out)
    again = Profile.read(BitReader(out.data()), profile.shape, profile.layout)
    np.testing.assert_array_equal(again.coded(), profile.coded())
    np.testing.assert_array_equal(again.cells(), profile.cells())
    np.testing.assert_array_equal(again.tile_of(), profile.tile_of())


def test_rates_follow_a_picture_with_a_smooth_half(monkeypatch: pytest.MonkeyPatch):
    d, r = synthetic_level((64, 32, 24), variation=0.3)
    d[:, :, :12] *= 0.05
    r[:, :, :12] = 1 - (1 - r[:, :, :12]) * 0.05
    j = []
    for worth in (rates.WORTH, np.inf):  # tiles, and none
        monkeypatch.setattr(rates, "WORTH", worth)
        coded = trellis(nu=10).encode(d, r, SharedRandom(1, 0))
        j.append(figure_of_merit(d, r, coded.values, 8 * len(coded.data)).j_percent)
    assert j[0] < j[1] - 3


def test_scale_moves_the_bits():
    d, r = synthetic_level((32, 24, 16))
    coded = [trellis(nu=8, scale=s).encode(d, r, SharedRandom(0, 0)) for s in (0.5, 1, 1.5)]
    bits = [8 * len(c.data) - c.side_bits for c in coded]
    assert 0.45 < bits[0] / bits[1] < 0.55
    assert 1.4 < bits[2] / bits[1] < 1.6


def test_budget_is_met_exactly_from_below():
    d, r = synthetic_level((32, 24, 16))
    sampler = trellis(nu=8)
    free = len(sampler.encode(d, r, SharedRandom(0, 0)).data)
    for budget in (free // 2, free - 7, free - 1, free, free + 1, free + 33, 2 * free):
        coded = sampler.encode_within(d, r, SharedRandom(0, 0), budget)
        assert len(coded.data) == budget
        values = sampler.decode(coded.data, d.shape, SharedRandom(0, 0))
        np.testing.assert_array_equal(values, coded.values)


def test_budget_that_cannot_be_met():
    d, r = synthetic_level((32, 24, 16))
    with pytest.raises(UsageError, match="too few for the rates alone"):
        trellis().encode_within(d, r, SharedRandom(0, 0), 5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0])
def test_targets_that_are_none(bad: float):
    d, r = np.zeros((1, 2, 2), np.float32), np.ones((1, 2, 2), np.float32)
    r[0, 1, 1] = bad
    with pytest.raises(UsageError, match="finite"):
        trellis().encode(d, r, SharedRandom(0, 0))


def test_time_is_linear_in_the_number_of_latents():
    """Eight times the latents take about eight times as long, the best of three runs each."""
    seconds = []
    for height in (48, 384):
        d, r = synthetic_level((32, height, 32))
        times = []
        for _ in range(3):
            start = time.thread_time()
            sampler = trellis(nu=9)
            sampler.threads = 1
            sampler.encode(d, r, SharedRandom(0, 0))
            times.append(time.thread_time() - start)
        seconds.append(min(times))
    assert seconds[1] / seconds[0] < 16


def golden_target(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Targets that golden streams were made of; only the streams' decoding is pinned."""
    shape = {"one": (1, 1, 1), "odd": (3, 5, 7), "level": (16, 12, 18), "far": (4, 8, 8)}[name]
    d, r = synthetic_level(shape, seed=zlib.crc32(name.encode()) % 100)
    if name == "far":
        d = (d * 6).astype(np.float32)
    return d, r


def golden_sampler(options: dict[str, float], shape: tuple[int, ...]) -> Sampler:
    """In layout 3 with guesses of -7.5 to 4.5 octaves."""
    places = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    return with_guesses(trellis(**options), (places * 37 % 97 - 60).astype(np.int8))


def write_golden() -> None:
    """Make streams for cases that have none yet; those that are there stay as they are."""
    GOLDEN.mkdir(exist_ok=True)
    choices = (
        {},
        {"nu": 8},
        {"nu": 14, "segment": 512},
        {"nu": 10, "layout": 2},
        {"nu": 10, "layout": 3},
    )
    for name in ("one", "odd", "level", "far"):
        for options in choices:
            d, r = golden_target(name)
            coded = golden_sampler(options, d.shape).encode(d, r, SharedRandom(7, 1))
            case = {
                "options": options,
                "shape": d.shape,
                "data": coded.data.hex(),
                "values": hashlib.sha256(coded.values.tobytes()).hexdigest(),
            }
            layout = f"-layout{options['layout']}" if "layout" in options else ""
            path = GOLDEN / f"{name}-{options.get('nu', 12)}{layout}.json"
            if not path.exists():
                path.write_text(json.dumps(case, indent=1) + "\n")


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_golden_streams(path: Path):
    case = json.loads(path.read_text())
    values = golden_sampler(case["options"], tuple(case["shape"])).decode(
        bytes.fromhex(case["data"]), tuple(case["shape"]), SharedRandom(7, 1)
    )
    assert hashlib.sha256(values.tobytes()).hexdigest() == case["values"]


def test_golden_streams_are_there():
    assert len(list(GOLDEN.glob("*.json"))) >= 20


if __name__ == "__main__":
    write_golden()


@pytest.mark.parametrize("shape", [(1, 1, 2**16 + 3), (2, 2**15 + 1, 1), (1, 1, 2**17)])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 2.0])
def test_levels_of_any_side_are_read_as_written(shape: tuple[int, int, int], scale: float) -> None:
    """A tile has at most 2^15 positions a side: longer levels have several, however few bits."""
    d = np.random.default_rng(0).standard_normal(shape).astype(np.float32) * np.float32(scale)
    r = np.full(shape, 1 if scale == 0 else 0.9, np.float32)
    sampler = Trellis(TrellisOptions(nu=8))
    coded = sampler.encode(d, r, SharedRandom(3, 0))
    decoded = sampler.decode(coded.data, shape, SharedRandom(3, 0))
    np.testing.assert_array_equal(decoded, coded.values)
    assert (coded.data == b"") == (scale == 0)
