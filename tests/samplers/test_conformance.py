"""The conformance kit passes sound samplers and catches each way of being broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from toolkit.format.errors import BadStream
from toolkit.options import Options
from toolkit.plugin.loader import load_plugins
from toolkit.sampling.contract import Array, CodedSample, Sampler
from toolkit.sampling.randomness import SharedRandom
from toolkit.testing import ConformanceError, check_sampler

Shape = tuple[int, int, int]


class Rejection(Sampler):
    """A sound sampler: plain rejection for each latent, up to 63 draws, one byte each.

    Not exact, as it gives up after 63 draws and takes the likeliest.
    """

    draws = 63

    def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
        rows = np.arange(d.size)
        candidates = random.normals(0, rows, self.draws).astype(np.float64)
        mean, width = (x.astype(np.float64).reshape(-1, 1) for x in (d, r))
        log_weight = 0.5 * (candidates**2 - ((candidates - mean) / width) ** 2)
        bound = 0.5 * mean**2 / np.maximum(1e-9, 1 - width**2)  # of the log weight, for r < 1
        accepted = np.log(random.private().random(candidates.shape)) < log_weight - bound
        first = np.where(accepted.any(1), accepted.argmax(1), log_weight.argmax(1))
        data = self.write(first)
        return CodedSample(data, self.decode(data, d.shape, random))  # type: ignore[arg-type]

    def write(self, indices: np.ndarray) -> bytes:
        return indices.astype(np.uint8).tobytes()

    def decode(self, data: bytes, shape: Shape, random: SharedRandom) -> Array:
        indices = np.frombuffer(data, np.uint8)
        if len(indices) != np.prod(shape) or (indices >= self.draws).any():
            raise BadStream("not as many draws as latents, or one out of range")
        return self.look_up(indices, random).reshape(shape)

    def look_up(self, indices: np.ndarray, random: SharedRandom) -> Array:
        table = random.normals(0, np.arange(len(indices)), int(indices.max()) + 1)
        return table[np.arange(len(indices)), indices]


def make(sampler: type[Sampler]) -> Sampler:
    return sampler(Options())


def refused(sampler: type[Sampler], check: str, message: str) -> None:
    with pytest.raises(ConformanceError, match=message) as caught:
        check_sampler(make(sampler), targets=10, damaged=60)
    assert caught.value.check == check
    assert "\n" not in str(caught.value)


def test_sound_sampler_passes():
    report = check_sampler(make(Rejection), targets=30, damaged=40)
    assert report.targets >= 30
    assert report.damaged == 40
    assert report.checks[-1] == "threads"
    assert report.figure_of_merit is not None
    assert report.figure_of_merit.bits == 8 * 32 * 16 * 24
    assert "Rejection" in str(report)
    assert "exactness" not in report.checks


def test_decoder_that_draws_other_numbers():
    class Other(Rejection):
        def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
            coded = super().encode(d, r, random)
            values = coded.values.copy()
            values.flat[-1] = np.nextafter(values.flat[-1], np.float32(9))
            return CodedSample(coded.data, values)

    refused(Other, "round trip", "differs from the encoder's in 1 of 1 .*draws other numbers")


def test_decoder_that_depends_on_what_the_encoder_left_behind():
    class Remembers(Rejection):
        def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
            coded = super().encode(d, r, random)
            self.offset = 1
            return coded

        def decode(self, data: bytes, shape: Shape, random: SharedRandom) -> Array:
            return super().decode(data, shape, random) + self.offset

        offset = 0

    class Encodes(Remembers):
        def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
            coded = super().encode(d, r, random)
            return CodedSample(coded.data, coded.values + 1)

    refused(Encodes, "round trip", "draws other numbers")


@pytest.mark.parametrize("bytes_more", [1, 4])
def test_decoder_that_needs_more_than_its_stream(bytes_more: int):
    class Greedy(Rejection):
        def decode(self, data: bytes, shape: Shape, random: SharedRandom) -> Array:
            count = int(np.prod(shape))
            indices = np.array([data[i] for i in range(count + bytes_more)])
            return self.look_up(indices[:count] % self.draws, random).reshape(shape)

        def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
            coded = Rejection.encode(make(Rejection), d, r, random)  # type: ignore[arg-type]
            return CodedSample(coded.data, coded.values)

    refused(Greedy, "round trip", "IndexError.*reads past its end")


def test_decoder_that_is_changed_by_what_follows_its_stream():
    class Past(Rejection):
        def decode(self, data: bytes, shape: Shape, random: SharedRandom) -> Array:
            count = int(np.prod(shape))
            values = super().decode(data[:count], shape, random)
            return values + np.float32(sum(data[count:]) + len(data) - count)

    refused(Past, "end of stream", "change the sample: the decoder reads past")


def test_decoder_that_leaves_bytes_unread():
    class Short(Rejection):
        def decode(self, data: bytes, shape: Shape, random: SharedRandom) -> Array:
            return super().decode(data[: int(np.prod(shape))], shape, random)

    refused(Short, "end of stream", "go unnoticed")


def test_wrong_shape():
    class Flat(Rejection):
        def decode(self, data: bytes, shape: Shape, random: SharedRandom) -> Array:
            return super().decode(data, shape, random).reshape(-1)

    refused(Flat, "shape", r"have shape \(1,\), not \(1, 1, 1\)")


def test_wrong_type():
    class Double(Rejection):
        def decode(self, data: bytes, shape: Shape, random: SharedRandom) -> Array:
            return super().decode(data, shape, random).astype(np.float64)  # type: ignore

    refused(Double, "type", "float32 array, not float64")


def test_nan():
    class NotANumber(Rejection):
        def look_up(self, indices: np.ndarray, random: SharedRandom) -> Array:
            values = super().look_up(indices, random)
            return np.where(indices == 7, np.float32(np.nan), values)

    refused(NotANumber, "finite values", " are NaN or infinite")


class PerfectCheat(Sampler):
    """Sends the sample itself: exact, if dear."""

    exact = True
    width = 1.0
    drift = 0.0

    def noise(self, shape: Shape, random: SharedRandom) -> np.ndarray:
        return random.private().standard_normal(shape)

    def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
        noise = self.width * self.noise(d.shape, random) + self.drift  # type: ignore[arg-type]
        values = (d + r * noise).astype(np.float32)
        return CodedSample(values.tobytes(), values)

    def decode(self, data: bytes, shape: Shape, random: SharedRandom) -> Array:
        if len(data) != 4 * np.prod(shape):
            raise BadStream("not four bytes a latent")
        values = np.frombuffer(data, np.float32).reshape(shape)
        if not np.isfinite(values).all():
            raise BadStream("values that aren't finite")
        return values


def test_exact_sampler_passes_the_tests_of_exactness():
    report = check_sampler(make(PerfectCheat), targets=5, damaged=20)
    assert report.checks[-1] == "exactness"
    assert abs(report.mean_bias) < 0.05
    assert abs(report.width_ratio - 1) < 0.05


def _laplace(self: PerfectCheat, shape: Shape, random: SharedRandom) -> np.ndarray:
    return random.private().laplace(size=shape, scale=np.sqrt(0.5))


def _repeated(self: PerfectCheat, shape: Shape, random: SharedRandom) -> np.ndarray:
    return np.repeat(random.private().standard_normal(shape).ravel(), 2)[: np.prod(shape)].reshape(
        shape
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0.95}, "its variance is 0.9"),
        ({"drift": 0.05}, "its mean is off by"),
        ({"noise": _laplace}, "its distribution differs"),
        ({"noise": _repeated}, "draws 1 apart are correlated"),
    ],
)
def test_sampler_that_claims_to_be_exact_and_is_not(changes: dict, message: str):
    claims = type("Claims", (PerfectCheat,), changes)
    refused(claims, "exactness", f"claims to be exact, but {message}")


def test_side_information_beyond_the_stream():
    class Boasts(Rejection):
        def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
            coded = super().encode(d, r, random)
            return CodedSample(coded.data, coded.values, side_bits=8 * len(coded.data) + 1)

    refused(Boasts, "side information", "9 bits of a stream of 8")


def test_damage_that_raises_what_is_not_a_bad_file():
    class Asserts(Rejection):
        def decode(self, data: bytes, shape: Shape, random: SharedRandom) -> Array:
            assert len(data) >= np.prod(shape), "too\nshort"
            return super().decode(data, shape, random)

    refused(Asserts, "damaged streams", r"AssertionError \(too short.*isn't a BadFile")


def test_damage_that_hangs(monkeypatch: pytest.MonkeyPatch):
    from toolkit.testing import streams

    released: list[bool] = []

    class Hangs(Rejection):
        def decode(self, data: bytes, shape: Shape, random: SharedRandom) -> Array:
            if not data:
                while not released:
                    pass
            return super().decode(data, shape, random)

    monkeypatch.setattr(streams, "DAMAGE_SECONDS", 0.2)
    try:
        refused(Hangs, "time", "no data.*still running after 0.2 s")
    finally:
        released.append(True)


def test_bytes_that_change_from_call_to_call():
    class Restless(Rejection):
        calls = 0

        def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
            type(self).calls += 1
            return super().encode(d, r + np.float32(0.1 * (type(self).calls % 3)), random)

    refused(Restless, "repeatability", "other bytes")


def test_bytes_that_depend_on_threads():
    class Threaded(Rejection):
        threads = 1

        def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
            return super().encode(d, r / np.float32(self.threads), random)

    refused(Threaded, "threads", "other bytes with 2 threads")


def test_decoder_that_replays_the_search():
    class Replays(Rejection):
        def look_up(self, indices: np.ndarray, random: SharedRandom) -> Array:
            table = random.normals(0, np.arange(len(indices)), 400)
            return table[np.arange(len(indices)), indices]

    refused(Replays, "cost of decoding", "does it replay the encoder's search")


def test_encoder_that_raises():
    class Fails(Rejection):
        def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
            if (r > 1).any():
                raise ZeroDivisionError("width")
            return super().encode(d, r, random)

    refused(Fails, "encoding", r"wide, s = 3 .*ZeroDivisionError \(width\)")


def test_the_smallest_sampler_that_passes():
    """What the README shows: a plugin of 33 lines."""
    plugins = load_plugins([Path(__file__).with_name("best16.py")])
    report = check_sampler("best16", plugins=plugins)
    assert report.targets >= 200
    assert report.figure_of_merit is not None
    assert report.figure_of_merit.bits == 4 * 32 * 16 * 24
    assert report.refused > 0


@pytest.mark.parametrize(
    ("fault", "check", "message"),
    [
        ("odd", "encoding", r"KL 0 \(1, 1, 1\): encode raised ValueError.*reshape"),
        ("long", "end of stream", "1 bytes too many: decode raised ValueError"),
    ],
)
def test_nibbles_packed_by_hand(fault: str, check: str, message: str):
    """The faults of a sampler that packs two indices a byte: no odd levels, no look at lengths."""

    class ByHand(Sampler):
        def encode(self, d: Array, r: Array, random: SharedRandom) -> CodedSample:
            draws = random.normals(0, np.arange(16), d.size)
            weights = draws**2 - ((draws - d.ravel()) / r.ravel()) ** 2
            best = weights.argmax(axis=0).astype(np.uint8)
            if fault == "long":
                best = np.append(best, np.zeros(d.size % 2, np.uint8))
            data = (best[0::2] | best[1::2] << 4).tobytes()
            return CodedSample(data, self.decode(data, d.shape, random))  # type: ignore[arg-type]

        def decode(self, data: bytes, shape: Shape, random: SharedRandom) -> Array:
            pairs = np.frombuffer(data, np.uint8)
            best = np.stack([pairs & 15, pairs >> 4], axis=1).ravel()
            if len(best) == np.prod(shape) + 1:
                best = best[:-1]
            draws = random.normals(0, np.arange(16), best.size)
            return draws[best, np.arange(best.size)].reshape(shape)

    refused(ByHand, check, message)


def test_by_name(tmp_path):
    from toolkit.errors import UnknownName, UsageError

    report = check_sampler("trellis", {"nu": 8}, targets=20, damaged=20)
    assert report.sampler == "trellis"
    with pytest.raises(UsageError, match="nu"):
        check_sampler("trellis", {"nu": 40})
    with pytest.raises(UnknownName, match="nearest: trellis"):
        check_sampler("treliss")
