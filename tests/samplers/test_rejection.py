"""The rejection sampler: exact whatever its budget; its stream; index counts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from scipy.stats import norm

from toolkit import cli
from toolkit.api import decode_file
from toolkit.errors import InputError, MissingError, UsageError
from toolkit.format.container import Stream, read_container, write_container
from toolkit.format.errors import BadFile, BadStream, OtherModel
from toolkit.plugin.loader import load_plugins
from toolkit.plugin.presets import load_registry, open_codec
from toolkit.sampling.coding.bits import BitReader, BitWriter
from toolkit.sampling.coding.counts import Counts, read_counts
from toolkit.sampling.figure_of_merit import figure_of_merit
from toolkit.sampling.randomness import SharedRandom
from toolkit.testing import check_sampler
from toolkit.testing.exactness import deviation
from toolkit_evaluation.data.synthetic import synthetic_level
from toolkit_plugins.samplers.exact.rejection import Rejection, RejectionOptions
from toolkit_plugins.samplers.exact.weights import mass_left


def rejection(bits: int = 8) -> Rejection:
    return Rejection(RejectionOptions(bits=bits))


def test_conformance() -> None:
    report = check_sampler("rejection", targets=30, damaged=60)
    assert "exactness" in report.checks
    check_sampler("rejection", {"bits": 2}, targets=10, damaged=20)


@pytest.mark.parametrize("bits", [1, 3, 8])
@pytest.mark.parametrize(("d", "r"), [(0.0, 1.0), (0.4, 1.6), (-2.0, 0.5), (1.0, 0.1), (5.0, 0.7)])
def test_exact_with_any_budget(bits: int, d: float, r: float) -> None:
    """What is sent by value after too many draws has the right distribution, too."""
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
    left = float(mass_left(d, r, s, -np.inf, np.inf))
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
    with pytest.raises(UsageError, match="finite"):
        rejection().encode(d, r, SharedRandom(0, 0))


def test_the_preset_codes_pictures() -> None:
    plugins = load_plugins()
    registry = load_registry(plugins, Path(__file__).parents[2] / "registry.yaml")
    codec = open_codec(plugins, registry.preset("pln-rejection"))
    y, x = np.mgrid[:64, :64]
    pixels = np.stack([x * 2, y * 3, 128 + 60 * np.sin(x / 9)], 2).clip(0, 255).astype(np.uint8)
    encoded = codec.encode(pixels, 0.5)
    np.testing.assert_array_equal(codec.decode(encoded.data).pixels, encoded.reconstruction)


# -- index counts ------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where counts are looked for; ``mine`` are those of a synthetic level."""
    monkeypatch.setenv("TOOLKIT_COUNTS", str(tmp_path))
    d, r = synthetic_level((64, 24, 24), seed=5)
    table = rejection(6).count_indices(d, r, SharedRandom(9, 0))
    (tmp_path / "mine.counts.json").write_bytes(Counts(table).to_json())
    return tmp_path


def counting(name: str = "mine", bits: int = 6) -> Rejection:
    return Rejection(RejectionOptions(bits=bits, counts=name))


def test_conformance_with_counts(folder: Path) -> None:
    report = check_sampler("rejection", {"bits": 6, "counts": "mine"}, targets=30, damaged=60)
    assert "exactness" in report.checks


def test_counts_change_the_stream_and_nothing_else(folder: Path) -> None:
    d, r = synthetic_level((16, 8, 8))
    own, ours = (s.encode(d, r, SharedRandom(1, 0)) for s in (rejection(6), counting()))
    np.testing.assert_array_equal(own.values, ours.values)
    assert len(ours.data) < len(own.data)  # no tables


def test_counts_cost_what_their_probabilities_say(folder: Path) -> None:
    counts = read_counts(folder / "mine.counts.json")
    contexts = np.repeat(np.arange(len(counts.table)), 200)
    generator = np.random.default_rng(0)
    probabilities = [counts.frequencies(c) / 2**24 for c in range(len(counts.table))]
    symbols = np.concatenate([generator.choice(len(p), 200, p=p / p.sum()) for p in probabilities])
    writer = BitWriter()
    counts.write(writer, symbols, contexts)
    ideal = -np.log2([probabilities[c][s] for c, s in zip(contexts, symbols, strict=True)]).sum()
    assert ideal < writer.bits < 1.001 * ideal + 96
    reader = BitReader(writer.data())
    np.testing.assert_array_equal(counts.read(reader, contexts), symbols)


@given(st.lists(st.integers(0, 2**40 - 1), min_size=2, max_size=400), st.floats(1e-6, 0.5))
@settings(max_examples=100, deadline=None)
def test_smoothing_leaves_the_counts_their_share(row: list[int], alpha: float) -> None:
    n, total = len(row), sum(row)
    frequencies = Counts(np.array([row]), alpha).frequencies(0) / 2**24
    expected = [(1 - alpha) * c / total + alpha / n for c in row] if total else [1 / n] * n
    assert frequencies == pytest.approx(expected, abs=(n + 2) * 2**-24 + 1e-6)
    assert frequencies.min() > 0
    assert frequencies.sum() <= 1


def test_contexts_that_were_never_seen_take_their_neighbours(folder: Path) -> None:
    counts = Counts(np.array([[0, 0], [3, 1], [0, 0], [0, 0], [1, 1]]))
    rows = [counts.frequencies(context).tolist() for context in range(5)]
    assert rows[0] == rows[1] == rows[2]
    assert rows[3] == rows[4]
    assert rows[0] != rows[4]


def test_files_of_counts_come_back(folder: Path) -> None:
    counts = read_counts(folder / "mine.counts.json")
    again = folder / "again.counts.json"
    again.write_bytes(counts.to_json())
    assert read_counts(again).fingerprint == counts.fingerprint
    assert dataclasses.replace(counts, alpha=0.02).fingerprint != counts.fingerprint


@pytest.mark.parametrize(
    "text", ["", "{}", '{"symbols": 3, "alpha": 0.1, "counts": [[1,2,3,4]]}', '{"symbols": 1e9}']
)
def test_files_that_hold_no_counts(folder: Path, text: str) -> None:
    (folder / "bad.counts.json").write_text(text)
    with pytest.raises(InputError, match=r"bad\.counts\.json: not a file of index counts"):
        counting("bad").encode(*synthetic_level((1, 3, 3)), SharedRandom(0, 0))


def test_missing_or_other_counts_are_said_to_be_so(folder: Path) -> None:
    d, r = synthetic_level((4, 6, 6))
    data = counting().encode(d, r, SharedRandom(1, 0)).data
    with pytest.raises(UsageError, match=r"bits = 8.*257"):
        counting(bits=8).encode(d, r, SharedRandom(1, 0))
    with pytest.raises(BadStream, match="bits = 8"):
        counting(bits=8).decode(data, (4, 6, 6), SharedRandom(1, 0))
    (folder / "mine.counts.json").rename(folder / "other.counts.json")
    with pytest.raises(MissingError, match=r"no mine\.counts\.json.*other"):
        counting().encode(d, r, SharedRandom(1, 0))
    with pytest.raises(OtherModel, match=r"no mine\.counts\.json"):
        counting().decode(data, (4, 6, 6), SharedRandom(1, 0))
    table = read_counts(folder / "other.counts.json").table
    (folder / "mine.counts.json").write_bytes(Counts(table + 1).to_json())
    read_counts.cache_clear()
    with pytest.raises(OtherModel, match="made with index counts 'mine'"):
        counting().decode(data, (4, 6, 6), SharedRandom(1, 0))


@pytest.mark.parametrize("name", ["../mine", "/etc/passwd", "Mine", "a b", "-", "."])
def test_counts_are_named_never_a_path(name: str) -> None:
    with pytest.raises(UsageError, match="counts"):
        check_sampler("rejection", {"counts": name})


def picture() -> np.ndarray:
    y, x = np.mgrid[:64, :64]
    waves = np.stack([x * 2, y * 3, 128 + 60 * np.sin(x / 9)], 2)
    return waves.clip(0, 255).astype(np.uint8)


def test_the_preset_takes_the_counts_that_ship() -> None:
    plugins = load_plugins()
    registry = load_registry(plugins, Path(__file__).parents[2] / "registry.yaml")
    codec = open_codec(plugins, registry.preset("pln-rejection"))
    sent = open_codec(
        plugins,
        registry.preset("pln-rejection", {"levels.level1.counts": "", "levels.level2.counts": ""}),
    )
    encoded = codec.encode(picture(), 0.5)
    assert len(encoded.data) < len(sent.encode(picture(), 0.5).data)
    hashes = [codec.identity()[level]["counts_hash"] for level in ("level1", "level2")]
    assert len(set(hashes)) == 2
    container = read_container(encoded.data)
    head, *rest = container.streams
    at = head.data.index(bytes.fromhex(hashes[1]))
    other = head.data[:at] + bytes(4) + head.data[at + 4 :]
    changed = dataclasses.replace(container, streams=(Stream(head.name, other), *rest))
    with pytest.raises(OtherModel, match="pln-level2"):
        decode_file(write_container(changed))


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    (tmp_path / "images").mkdir()
    for number in range(2):
        Image.fromarray(np.roll(picture(), 9 * number, 1)).save(tmp_path / f"images/{number}.png")
    command = ["counts", str(tmp_path / "images"), "--out", str(tmp_path / "new/my")]
    command += [
        "--codec",
        "pln-rejection",
        "-o",
        "levels.level1.bits=5",
        "--point",
        "0.2",
        "--point",
        "0.9",
        "--alpha",
        "0.02",
    ]
    monkeypatch.setattr("sys.argv", ["toolkit", *command])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code
    counts = read_counts(tmp_path / "new/my-level1.counts.json")
    assert counts.alpha == 0.02
    assert counts.table.shape[1] == 33
    assert json.loads((tmp_path / "new/my-level2.counts.json").read_text())["symbols"] == 257
    monkeypatch.setattr("sys.argv", ["toolkit", *command, "--codec", "jpeg"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
