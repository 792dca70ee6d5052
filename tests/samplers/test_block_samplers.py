"""Samplers that code blocks: round trips, figures, orders of merit, damage."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import UsageError
from toolkit.format.errors import BadFile, BadStream
from toolkit.plugin.loader import Plugins, load_plugins
from toolkit.plugin.presets import load_registry, open_codec
from toolkit.sampling.choice import SamplerChoice
from toolkit.sampling.coding.bits import BitReader, BitWriter
from toolkit.sampling.coding.integers import read_integers, write_integers
from toolkit.sampling.contract import Sampler, kl_bits
from toolkit.sampling.figure_of_merit import FigureOfMerit, figure_of_merit
from toolkit.sampling.randomness import SharedRandom
from toolkit.testing import check_sampler
from toolkit_evaluation.data.synthetic import synthetic_level
from toolkit_plugins.samplers.importance import Importance, ImportanceOptions

GOLDEN = Path(__file__).parents[1] / "golden" / "blocks"
CASES: dict[str, dict[str, Any]] = {
    "importance": {"sampler": "importance", "bits": 8},
    "importance sampled": {"sampler": "importance", "bits": 8, "slack": 2, "choice": "sampled"},
    "importance sent": {"sampler": "importance", "bits": 10, "width": 16, "blocks": "sent"},
    "greedy": {"sampler": "greedy", "bits": 7},
    "greedy equal": {"sampler": "greedy", "bits": 6, "shards": "equal", "score": "final"},
    "greedy sent": {"sampler": "greedy", "bits": 6, "blocks": "sent", "outlier": 12.0},
    "irec": {"sampler": "irec", "bits": 5, "steps": 6, "beam": 4},
    "ordered": {"sampler": "ordered", "bits": 8},
    "poisson": {"sampler": "poisson", "bits": 8, "slack": 4},
}
each_case = pytest.mark.parametrize("case", CASES)
PLUGINS: Plugins = load_plugins()


def sampler(options: dict[str, Any]) -> Sampler:
    return SamplerChoice.from_options(PLUGINS, options, "test").build()


def merit(shape: tuple[int, int, int], top: float = 5.0, **options: Any) -> FigureOfMerit:
    d, r = synthetic_level(shape, top, variation=0.3)
    coded = sampler(options).encode(d, r, SharedRandom(1, 0))
    return figure_of_merit(d, r, coded.values, 8 * len(coded.data))


def levels() -> st.SearchStrategy[tuple[np.ndarray, np.ndarray, int]]:
    sides = st.one_of(st.just((1, 1, 1)), st.tuples(*[st.integers(1, 7)] * 3))

    def level(shape: tuple[int, int, int], seed: int, log_r: float, far: float):
        generator = np.random.default_rng(seed)
        r = np.exp(generator.normal(log_r, 0.7, shape)) if log_r else np.ones(shape)
        d = generator.normal(size=shape) * far
        return d.astype(np.float32), r.astype(np.float32), seed

    return st.builds(
        level,
        sides,
        st.integers(0, 2**31),
        st.one_of(st.just(0.0), st.floats(-14, 2)),
        st.sampled_from([0.0, 0.1, 1.0, 5.0, 1e5]),
    )


@each_case
@given(level=levels())
@settings(max_examples=40, deadline=None)
def test_decoder_repeats_the_encoder(case: str, level: tuple[np.ndarray, np.ndarray, int]) -> None:
    d, r, seed = level
    coded = sampler(CASES[case]).encode(d, r, SharedRandom(seed, 3))
    values = sampler(CASES[case]).decode(coded.data, d.shape, SharedRandom(seed, 3))
    np.testing.assert_array_equal(values.view(np.uint32), coded.values.view(np.uint32))
    assert coded.values.dtype == np.float32
    assert coded.values.shape == d.shape
    assert np.isfinite(coded.values).all()
    assert 0 <= coded.side_bits <= 8 * len(coded.data)


@each_case
@given(data=st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_bytes_give_a_sample_or_a_named_error(case: str, data: bytes) -> None:
    try:
        values = sampler(CASES[case]).decode(data, (3, 8, 11), SharedRandom(0, 0))
    except BadFile:
        return
    assert values.shape == (3, 8, 11)
    assert np.isfinite(values).all()


def correlations_of_blocks(d: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Of the log weights of pairs of blocks of one shape, over all candidates."""
    random = SharedRandom(1, 0)
    one = Importance(ImportanceOptions(bits=12))
    layout = one.layouts().write(BitWriter(), d, r, 1.0, random)
    found = []
    for target in one._targets(layout, one._blocks(layout, random), d, r, random):
        if len(target.numbers) > 20:
            a, b = target.log_weights()
            book = target.books.get(0, 1 << 12, target.width)
            real = np.arange(target.width) < target.lengths[:, None]
            log_weights = (a * real) @ book.squares.T + (b * real * target.signs()) @ book.draws.T
            pairs = np.corrcoef(log_weights[:200])
            found.append(pairs[np.triu_indices(len(pairs), 1)])
    return np.concatenate(found)


@pytest.mark.parametrize("r", [0.5, 0.7, 0.8])
def test_log_weights_of_blocks_with_equal_targets_correlate(r: float) -> None:
    """Signs turn the linear part of log weights, a x^2 is alike in all blocks: of the variance
    2 a^2 + b^2, 2 a^2 is shared, for a calibrated prior (d^2 = 1 - r^2) (1 - r^2) / (3 - r^2)."""
    d = np.full((2, 40, 40), np.sqrt(1 - r * r), np.float32)
    pairs = correlations_of_blocks(d, np.full_like(d, r))
    assert pairs.mean() == pytest.approx((1 - r * r) / (3 - r * r), abs=0.02)


def test_log_weights_of_blocks_of_a_level_correlate() -> None:
    assert 0.1 < correlations_of_blocks(*synthetic_level((128, 32, 48))).mean() < 0.2


def test_the_thesis_preset_is_as_printed() -> None:
    """Algorithms 2, 3 and 5; sections 3.4.3 and 4."""
    registry = load_registry(PLUGINS, Path(__file__).parents[2] / "registry.yaml")
    levels = registry.preset("pln-isgs-thesis").options["levels"]
    level1 = {"sampler": "greedy", "steps": 30, "bits": 14, "score": "final", "shards": "equal"}
    level2 = {"sampler": "importance", "bits": 20, "width": 16, "outlier": 12, "choice": "sampled"}
    for name, printed in (("level1", level1), ("level2", level2)):
        printed |= {"blocks": "sent", "refine": False}
        assert printed.items() <= levels[name].items()
        choice = SamplerChoice.from_options(PLUGINS, levels[name], name)
        assert choice.config()["rate"] == 1
        assert not choice.common.refine


@each_case
def test_conformance(case: str) -> None:
    options = dict(CASES[case])
    report = check_sampler(options.pop("sampler"), options, targets=20, damaged=60)
    assert report.refused > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["importance", "greedy", "irec", "ordered", "poisson"])
def test_conformance_by_default_options(name: str) -> None:
    check_sampler(name, slow=True)


def test_greedy_loses_less_than_the_thesis_did() -> None:
    figures = merit((96, 32, 32), sampler="greedy")
    assert figures.j_percent <= 45
    assert -5 < figures.rate_percent < 15


@given(st.integers(6, 20), st.integers(6, 8))
@settings(max_examples=5, deadline=None, derandomize=True)
def test_partial_score_beats_final(steps: int, bits: int) -> None:
    shape = (32, 12, 12)
    partial = merit(shape, 1.5, sampler="greedy", steps=steps, bits=bits)
    final = merit(shape, 1.5, sampler="greedy", steps=steps, bits=bits, score="final")
    assert partial.j_percent < final.j_percent


@given(st.integers(6, 20), st.integers(6, 8))
@settings(max_examples=5, deadline=None, derandomize=True)
def test_geometric_shards_beat_equal_ones(steps: int, bits: int) -> None:
    shape = (32, 12, 12)
    geometric = merit(shape, 1.5, sampler="greedy", steps=steps, bits=bits)
    equal = merit(shape, 1.5, sampler="greedy", steps=steps, bits=bits, shards="equal")
    assert geometric.j_percent < equal.j_percent


def test_a_beam_of_one_is_greedy_and_wider_ones_lose_less() -> None:
    shape = (32, 12, 12)
    irec = {"sampler": "irec", "bits": 6, "steps": 8}
    by_beam = [merit(shape, 1.5, **irec, beam=beam).j_percent for beam in (1, 8, 64)]
    assert by_beam[0] > by_beam[1] > by_beam[2]
    d, r = synthetic_level(shape, 1.5)
    greedy = {"sampler": "greedy", "bits": 6, "steps": 8}
    one, same = (
        sampler(options).encode(d, r, SharedRandom(1, 0))
        for options in ({**irec, "beam": 1}, greedy)
    )
    assert np.mean(one.values == same.values) > 0.98  # scores are rounded differently


def test_beam_search_loses_less_than_greedy_does() -> None:
    assert merit((64, 24, 24), sampler="irec").j_percent <= 30


@pytest.mark.parametrize("name", ["ordered", "poisson"])
def test_sorted_noise_makes_small_indices(name: str) -> None:
    """Draws beyond 2^KL hardly cost anything: their numbers are seldom sent."""
    d, r = np.full((4, 40, 40), 1.2, np.float32), np.full((4, 40, 40), 0.5, np.float32)
    plain = {"sampler": "importance", "choice": "sampled", "bits": 12, "slack": 6}
    uniform = sampler(plain).encode(d, r, SharedRandom(5, 0))
    sorted_ = sampler({"sampler": name, "bits": 12, "slack": 6}).encode(d, r, SharedRandom(5, 0))
    assert len(sorted_.data) < 0.85 * len(uniform.data)
    width = float(np.sqrt(np.mean(np.square((sorted_.values - d) / r))))
    assert abs(width - 1) < 0.06


def test_more_draws_and_the_largest_weight_lose_less() -> None:
    shape = (32, 12, 12)
    by_bits = [merit(shape, sampler="importance", bits=bits).j_percent for bits in (6, 9, 12)]
    assert by_bits[0] > by_bits[1] > by_bits[2]
    sampled = merit(shape, sampler="importance", bits=12, choice="sampled")
    assert by_bits[2] < sampled.j_percent


def test_slack_brings_the_sample_nearer_to_the_target() -> None:
    """With more draws than 2^KL, the distribution of importance sampling tends to the target."""
    d, r = np.full((4, 40, 40), 1.2, np.float32), np.full((4, 40, 40), 0.5, np.float32)
    widths = []
    for slack in (0, 6):
        options = {"sampler": "importance", "bits": 12, "choice": "sampled", "slack": slack}
        values = sampler(options).encode(d, r, SharedRandom(5, 0)).values
        widths.append(float(np.sqrt(np.mean(np.square((values - d) / r)))))
    assert abs(widths[1] - 1) < 0.06
    assert abs(widths[1] - 1) < abs(widths[0] - 1)


def test_blocks_sent_one_by_one_cost_more_than_rates() -> None:
    d, r = synthetic_level((32, 16, 16))
    sides = {}
    for blocks in ("rates", "sent"):
        options = {"sampler": "importance", "bits": 12, "blocks": blocks}
        sides[blocks] = sampler(options).encode(d, r, SharedRandom(0, 0)).side_bits
    assert 32 * 3 < sides["rates"] < sides["sent"] / 4


def test_outliers_are_sent_by_value() -> None:
    d, r = np.zeros((2, 10, 10), np.float32), np.full((2, 10, 10), 0.8, np.float32)
    d[0, 2, 3], d[1, 9, 9] = 30, -500
    r[0, 2, 3] = r[1, 9, 9] = 0.01
    coded = sampler(CASES["importance sent"]).encode(d, r, SharedRandom(0, 0))
    far = np.abs(d) > 1
    assert np.abs(coded.values - d)[far].max() < 0.1


@pytest.mark.parametrize("name", ["importance", "greedy"])
def test_same_bytes_again_and_other_draws_for_other_seeds(name: str) -> None:
    d, r = synthetic_level((8, 12, 12))
    options = {"sampler": name, "bits": 8}
    first, again, other = (sampler(options).encode(d, r, SharedRandom(s, 0)) for s in (1, 1, 2))
    assert first.data == again.data
    coded = first.values != 0  # channels without a rate are 0
    assert np.mean(first.values[coded] == other.values[coded]) < 0.01
    assert abs(len(first.data) - len(other.data)) <= 2


def test_rate_follows_its_option() -> None:
    d, r = synthetic_level((16, 16, 16))
    kl = float(kl_bits(d, r).sum())
    for rate in (0.5, 1.0, 1.5):
        options = {"sampler": "importance", "bits": 10, "rate": rate}
        coded = sampler(options).encode(d, r, SharedRandom(0, 0))
        assert abs((8 * len(coded.data) - coded.side_bits) / kl - rate) < 0.1


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0])
def test_targets_that_are_none(bad: float) -> None:
    d, r = np.zeros((1, 2, 2), np.float32), np.ones((1, 2, 2), np.float32)
    r[0, 1, 1] = bad
    with pytest.raises(UsageError, match="finite"):
        sampler(CASES["greedy"]).encode(d, r, SharedRandom(0, 0))


@given(st.lists(st.integers(0, 2**40 - 1), max_size=60), st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_integers_of_any_size_round_trip(numbers: list[int], kinds: int) -> None:
    values = np.array(numbers, np.int64)
    contexts = np.arange(len(values)) % kinds
    writer = BitWriter()
    write_integers(writer, values, contexts)
    reader = BitReader(writer.data())
    np.testing.assert_array_equal(read_integers(reader, len(values), contexts), values)
    reader.finish()


def test_integers_that_repeat_cost_next_to_nothing() -> None:
    writer = BitWriter()
    write_integers(writer, np.full(10_000, 7, np.int64))
    assert writer.bits < 400


def test_cut_streams_are_refused() -> None:
    d, r = synthetic_level((8, 12, 12))
    for options in CASES.values():
        data = sampler(options).encode(d, r, SharedRandom(1, 0)).data
        for size in (0, 1, len(data) // 2, len(data) - 1):
            with pytest.raises(BadStream):
                sampler(options).decode(data[:size], d.shape, SharedRandom(1, 0))


@pytest.mark.parametrize(
    "name", ["pln-isgs", "pln-greedy", "pln-is", "pln-irec", "pln-orc", "pln-isgs-thesis"]
)
def test_presets_code_pictures(name: str) -> None:
    registry = load_registry(PLUGINS, Path(__file__).parents[2] / "registry.yaml")
    options = {
        "levels.level1.bits": 9,
        "levels.level2.bits": 9,
    }  # smaller codebooks are made faster
    codec = open_codec(PLUGINS, registry.preset(name, options))
    y, x = np.mgrid[:64, :64]
    pixels = np.stack([x * 2, y * 3, 128 + 60 * np.sin(x / 9)], 2).clip(0, 255).astype(np.uint8)
    encoded = codec.encode(pixels, 0.5)
    np.testing.assert_array_equal(codec.decode(encoded.data).pixels, encoded.reconstruction)
    assert np.mean(np.abs(encoded.reconstruction.astype(float) - pixels)) < 16


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_golden_streams(path: Path) -> None:
    case = json.loads(path.read_text())
    data, shape = bytes.fromhex(case["data"]), tuple(case["shape"])
    values = sampler(case["options"]).decode(data, shape, SharedRandom(7, 1))
    assert hashlib.sha256(values.tobytes()).hexdigest() == case["values"]


def test_golden_streams_are_there() -> None:
    assert len(list(GOLDEN.glob("*.json"))) >= 46
