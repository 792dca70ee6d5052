"""Guessed rates: whole numbers, the same everywhere; what the trellis makes of them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from toolkit.errors import UsageError
from toolkit.format.errors import BadStream
from toolkit.sampling import rate_prediction
from toolkit.sampling.capabilities import with_guesses
from toolkit.sampling.coding.bits import BitReader, BitWriter
from toolkit.sampling.contract import kl_bits
from toolkit.sampling.figure_of_merit import figure_of_merit
from toolkit.sampling.prior_refinement import refine_prior
from toolkit.sampling.randomness import SharedRandom
from toolkit.sampling.rate_prediction import RatePredictor
from toolkit.training.rate_network import Batch, RateNetwork
from toolkit_evaluation.data.synthetic import synthetic_level
from toolkit_plugins.samplers.trellis.corrections import Corrections, choose_corrections
from toolkit_plugins.samplers.trellis.sampler import Trellis, TrellisOptions

CHANNELS = [3, 4, 5]
SHAPES = [(3, 2, 3), (4, 4, 6), (5, 8, 12)]


def trellis(**options: float) -> Trellis:
    return Trellis(TrellisOptions(**{"layout": 3, "nu": 10, **options}))  # type: ignore[arg-type]


def network(width: int = 7, seed: int = 0) -> RateNetwork:
    torch.manual_seed(seed)
    made = RateNetwork(CHANNELS, width)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def predictor(seed: int = 0) -> RatePredictor:
    tensors = network(seed=seed).tensors()
    made = RatePredictor.from_tensors({name: value.numpy() for name, value in tensors.items()})
    assert made is not None
    return made


def samples(shapes: list[tuple[int, int, int]], seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.normal(0, 1.5, shape).astype(np.float32) for shape in shapes]


def guesses_of(rate: float, known: list[np.ndarray], seed: int = 0) -> list[np.ndarray]:
    walk = predictor(seed).begin(rate)
    found = []
    for sample in known:
        found.append(walk.octaves(sample.shape))  # type: ignore[arg-type]
        walk.add(sample)
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("rate", [0.0, 0.31, 1.0])
def test_whole_numbers_guess_what_the_network_does(rate: float) -> None:
    known = samples(SHAPES)
    tensors = [torch.from_numpy(c)[None] for c in known]
    batch = Batch(torch.tensor([rate]), tensors, tensors)
    with torch.no_grad():
        wanted = network()(batch)
    for found, octaves in zip(guesses_of(rate, known), wanted, strict=True):
        difference = found / 8 - octaves[0].numpy().clip(-16, 15.875)
        assert np.abs(difference).mean() < 0.2
        assert np.abs(difference).max() < 1.2


def test_guesses_are_the_same_everywhere() -> None:
    """Of weights and samples written down: no float on the way decides."""
    generator = np.random.default_rng(5)
    tensors = {}
    for name, shape in [
        ("first", (1, 3, 0)), ("next0", (9, 6, 3)), ("head0", (1, 4, 6)),
        ("next1", (9, 6, 10)), ("head1", (1, 5, 6)),
    ]:  # fmt: skip
        tensors[f"{name}.kernel"] = generator.integers(-127, 128, shape)
        tensors[f"{name}.bias"] = generator.integers(-40000, 40000, (3, shape[1]))
        tensors[f"{name}.shift"] = generator.integers(6, 11, shape[1])
    made = RatePredictor.from_tensors(tensors)
    assert made is not None
    walk = made.begin(0.4)
    steps = generator.integers(-90, 90, 4 * 96)
    digest = hashlib.sha256()
    for channels, height, width in SHAPES:
        guesses = walk.octaves((channels, height, width))
        digest.update(np.ascontiguousarray(guesses).tobytes())
        sample = np.resize(steps, (channels, height, width)) / np.float32(16)
        walk.add(sample.astype(np.float32))
    assert digest.hexdigest()[:16] == "c862be86b10bdea6"


def test_maps_are_convolved_as_written_down() -> None:
    """Against sums taken one by one."""
    made, known = predictor(), samples(SHAPES)
    found = guesses_of(0.25, known)[1]
    steps = np.clip(np.rint(known[0] * 16), -64, 64).astype(int)
    rate = round(0.25 * 65535)
    step, head = made.nexts[0], made.heads[0]
    for place in [(0, 0), (1, 2), (0, 1)]:
        sums = [int(b) for b in step.bias_at(rate)]
        for dy in range(3):
            for dx in range(3):
                y, x = place[0] + dy - 1, place[1] + dx - 1
                if 0 <= y < 2 and 0 <= x < 3:
                    for o in range(len(sums)):
                        kernel = step.kernel[3 * dy + dx, o].astype(int)
                        sums[o] += int((kernel * steps[:, y, x]).sum())
        at = [min(255, max(0, v >> int(k))) for v, k in zip(sums, step.shift, strict=True)]
        for o, bias in enumerate(head.bias_at(rate)):
            total = int(bias) + int((head.kernel[0, o].astype(int) * np.array(at)).sum())
            wanted = min(127, max(-128, total >> int(head.shift[o])))
            assert found[o, 2 * place[0] + 1, 2 * place[1]] == wanted


def test_large_maps_are_worked_on_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    known = samples([(3, 5, 7), (4, 10, 14), (5, 20, 28)])
    whole = guesses_of(0.6, known)
    for rows in (1, 3):
        monkeypatch.setattr(rate_prediction, "_ROWS", rows)
        for found, wanted in zip(guesses_of(0.6, known), whole, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_levels_of_odd_sides_and_of_other_channels() -> None:
    walk = predictor().begin(0.5)
    walk.octaves((3, 3, 5))
    walk.add(samples([(3, 3, 5)])[0])
    assert walk.octaves((4, 5, 9)).shape == (4, 5, 9)
    for ask in (lambda: walk.octaves((6, 5, 9)), lambda: walk.add(samples([(3, 5, 9)])[0])):
        with pytest.raises(UsageError, match="another model"):
            ask()
    for shape in ((4, 5, 9), (5, 5, 9)):  # whether asked or not
        walk.add(samples([shape])[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("head0.bias"),
        lambda t: t.update({"head7.bias": t["head0.bias"]}),
        lambda t: t.update({"next0.kernel": t["next0.kernel"][:, :, :2]}),
        lambda t: t.update({"head1.kernel": t["head1.kernel"] + 0.5}),
        lambda t: t.update({"next1.shift": t["next1.shift"] + 50}),
        lambda t: t.update({"head0.shift": t["head0.shift"][:2]}),
    ],
)
def test_tensors_that_no_training_makes_are_refused(change) -> None:
    tensors = {name: value.numpy() for name, value in network().tensors().items()}
    change(tensors)
    with pytest.raises(ValueError, match="prediction"):
        RatePredictor.from_tensors(tensors)


# -- layout 3 ---------------------------------------------------------------------


def level_with_guesses(
    error: float, shape: tuple[int, int, int] = (24, 32, 24)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A level whose elements' rates vary by octaves, and guesses off by so many."""
    generator = np.random.default_rng(3)
    octaves = generator.normal(-1, 3, shape)
    r = 1 / np.sqrt(1 + np.exp2(octaves))
    d = generator.normal(size=shape) * np.sqrt(1 - r**2)
    guesses = np.rint(8 * (octaves + generator.normal(0, error, shape))).clip(-128, 127)
    return d.astype(np.float32), r.astype(np.float32), guesses.astype(np.int8)


def test_guesses_save_bits() -> None:
    j = []
    for error in (0.0, 1.0, None):
        d, r, guesses = level_with_guesses(error or 0.0)
        sampler = with_guesses(trellis(), guesses if error is not None else None)
        coded = sampler.encode(d, r, SharedRandom(1, 0))
        j.append(figure_of_merit(d, r, coded.values, 8 * len(coded.data)).j_percent)
    assert j[0] < j[1] < j[2] - 4
    assert j[0] < 14


@pytest.mark.parametrize("wrong", [-4, 5])
def test_guesses_that_are_wrong_for_channels_and_tiles_are_corrected(wrong: int) -> None:
    d, r, guesses = level_with_guesses(0.3)
    false = guesses.astype(np.int64)
    false[:9] += 8 * wrong
    false[:, :16] -= 16
    rates = []
    for told in (guesses, false.clip(-128, 127).astype(np.int8)):
        coded = with_guesses(trellis(), told).encode(d, r, SharedRandom(1, 0))
        merit = figure_of_merit(d, r, coded.values, 8 * len(coded.data))
        rates.append(merit.j_percent)
    assert rates[1] < rates[0] + 4


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)),
    st.integers(0, 2**31),
    st.floats(-10, 3),
    st.integers(0, 127),
    st.booleans(),
)
@example((3, 6, 1), 547461835, -5.853138946351379, 14, True)  # wants more than the largest scale
@settings(max_examples=100, deadline=None)
def test_decoder_repeats_the_encoder(shape, seed: int, log_r: float, spread: int, refine: bool):
    generator = np.random.default_rng(seed)
    r = np.exp(generator.normal(log_r, 0.5, shape)).astype(np.float32)
    d = generator.normal(0, 2, shape).astype(np.float32)
    guesses = generator.integers(-spread, spread + 1, shape).astype(np.int8)
    sampler = trellis(nu=8, segment=256)
    sampler = with_guesses(refine_prior(sampler) if refine else sampler, guesses)  # type: ignore[assignment]
    coded = sampler.encode(d, r, SharedRandom(seed & 255, 3))
    values = sampler.decode(coded.data, shape, SharedRandom(seed & 255, 3))
    np.testing.assert_array_equal(values.view(np.uint32), coded.values.view(np.uint32))


@given(st.binary(max_size=300), st.integers(0, 2**31))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_a_sample_or_a_bad_stream(data: bytes, seed: int):
    shape = (3, 8, 11)
    guesses = np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)
    try:
        values = with_guesses(trellis(), guesses).decode(data, shape, SharedRandom(0, 0))
    except BadStream:
        return
    assert values.shape == shape
    assert np.isfinite(values).all()


def test_nothing_is_sent_of_a_level_that_holds_nothing() -> None:
    shape = (2, 40, 40)
    d, r = np.full(shape, 0.01, np.float32), np.full(shape, 0.9999, np.float32)
    sampler = with_guesses(trellis(), np.full(shape, -128, np.int8))
    coded = sampler.encode(d, r, SharedRandom(1, 0))
    assert coded.data == b""
    assert not coded.values.any()


def test_a_level_fits_its_bytes() -> None:
    d, r, guesses = level_with_guesses(0.5)
    sampler = with_guesses(trellis(), guesses)
    for size in (400, 3000):
        coded = sampler.encode_within(d, r, SharedRandom(1, 0), size)  # type: ignore[attr-defined]
        assert size - 2 <= len(coded.data) <= size
        again = sampler.decode(coded.data, d.shape, SharedRandom(1, 0))
        np.testing.assert_array_equal(again, coded.values)


def test_without_guesses_it_is_layout_2() -> None:
    d, r = synthetic_level((16, 24, 16))
    plain = trellis(layout=2).encode(d, r, SharedRandom(1, 0)).data
    assert trellis().encode(d, r, SharedRandom(1, 0)).data == plain
    older = trellis(layout=2)
    assert with_guesses(older, np.zeros(d.shape, np.int8)) is older


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 20), st.integers(1, 20)),
    st.integers(0, 5),
    st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_corrections_are_read_as_written(shape, exponent: int, seed: int):
    generator = np.random.default_rng(seed)
    guesses = generator.integers(-60, 60, shape).astype(np.int8)
    tiles = -(-shape[1] >> exponent) * -(-shape[2] >> exponent)
    bits = np.exp(generator.normal(0, 3, (shape[0], tiles)))
    made = choose_corrections(bits, exponent, guesses)
    out = BitWriter()
    made.write(out)
    again = Corrections.read(BitReader(out.data()), guesses)
    np.testing.assert_array_equal(again.members, made.members)
    every = np.arange(guesses.size)
    np.testing.assert_array_equal(again.octaves_of(every), made.octaves_of(every))
    assert again.sent_bits() == made.sent_bits()


def test_what_is_sent_is_what_the_level_takes() -> None:
    d, r, guesses = level_with_guesses(0.5)
    coded = with_guesses(trellis(), guesses).encode(d, r, SharedRandom(1, 0))
    assert 0.9 < (8 * len(coded.data) - coded.side_bits) / kl_bits(d, r).sum() < 1.1
