"""Coded samplers measured on levels of latents: bits, KL, J, time, memory, PSNR lost.

The levels are those of real images, as a codec that sends samples makes them, or synthetic.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any, Protocol

from toolkit.sampling.capabilities import SendsSamples, with_guesses
from toolkit.sampling.contract import Array, Sampler
from toolkit.sampling.figure_of_merit import figure_of_merit
from toolkit.sampling.ladder import Target
from toolkit.sampling.randomness import SharedRandom
from toolkit_evaluation.data.synthetic import synthetic_level
from toolkit_evaluation.metrics.fidelity import psnr
from toolkit_evaluation.run.memory import PeakMemory

if TYPE_CHECKING:
    from toolkit.codec.base import Encoded, Pixels, Theoretical

Record = dict[str, Any]

SYNTHETIC_POINTS = (1.0, 2.5, 5.0)
"""Rates, bits a latent, of the highest-rate channels of synthetic levels."""
SYNTHETIC_LEVELS = ("upper", "lower")
"""Names of synthetic levels where no codec has its own."""
MEANS = ("kl_bits", "bits", "side_bits", "j_percent", "rate_percent", "excess_percent")
TIMES = ("encode_s", "decode_s")
SUMS = ("kl_bits", "bits", "excess_bits", "side_bits", *TIMES)
"""What adds up over levels."""
_WARM_UP = 8


class SamplingCodec(SendsSamples, Protocol):
    """What the bench needs of a codec that sends samples of latents."""

    def encode_pixels(self, pixels: Pixels, point: float) -> Encoded:
        """See ``Codec``."""
        ...

    def theoretical(self, pixels: Pixels, point: float) -> Theoretical | None:
        """See ``Codec``."""
        ...


@dataclass
class Contender:
    """A codec with a choice of samplers, one for each level."""

    name: str
    """Of the preset, or what the user typed."""
    codec: SamplingCodec
    points: Sequence[float]

    @property
    def label(self) -> str:
        """Names of its samplers, the lowest level's first."""
        return "+".join(dict.fromkeys(reversed(self.codec.sampler_names())))


def synthetic_levels(
    point: float,
    names: Sequence[str] = SYNTHETIC_LEVELS,
    seed: int = 0,
    width: int = 768,
    height: int = 512,
) -> list[Target]:
    """Levels in the manner of a ladder, for an image of so many pixels.

    Arguments:
        point: Bits a latent of the highest-rate channel of the level nearest the image.
        names: Of the levels, top level first. The last has 128 channels, a position for each
            16 x 16 pixels; each above has 24, half as many positions a side, a third of the rate.
    """
    levels: list[Target] = []
    for above, name in enumerate(reversed(names)):
        side, channels, top = 16 << above, 24 if above else 128, point / 3**above
        shape = (channels, -(-height // side), -(-width // side))
        d, r = synthetic_level(shape, top=top, bottom=top / 2000, seed=seed)
        levels.insert(0, Target(name, d, r))
    return levels


def bench_levels(
    samplers: Mapping[str, Sampler], levels: Iterable[Target], seed: int, repeat: int = 1
) -> Record:
    """Figures of one coding of all ``levels``: sums over them, the largest memory, and each level's
    own under ``levels``.

    ``peak_mb`` is by how much the process grew at most while encoding, MiB, None where that
    isn't known. Of ``repeat`` runs the fastest counts.
    """
    of_levels: list[Record] = []
    peaks = []
    for depth, target in enumerate(levels):
        sampler, random = samplers[target.name], SharedRandom(seed, depth)
        figures, peak = _bench_level(sampler, target, random, repeat)
        of_levels.append({"level": target.name, **figures})
        peaks.append(peak)
    row = _with_percentages({key: sum(one[key] for one in of_levels) for key in SUMS})
    row["peak_mb"] = max((peak for peak in peaks if peak is not None), default=None)
    row["levels"] = [_with_percentages(one) for one in of_levels]
    return row


def _with_percentages(figures: Record) -> Record:
    """Excess, rate and J as per cent of the KL divergence, in place of the excess in bits."""
    row = dict(figures)
    kl, bits, excess = row["kl_bits"], row["bits"], row.pop("excess_bits")
    row["rate_percent"] = 100 * (bits - kl) / kl if kl else None
    row["excess_percent"] = 100 * excess / kl if kl else None
    row["j_percent"] = 100 * (bits - kl + excess) / kl if kl else None
    return row


def _bench_level(
    sampler: Sampler, target: Target, random: SharedRandom, repeat: int
) -> tuple[dict[str, float], float | None]:
    """Figures that add up over levels, and the memory."""
    d, r = target.d, target.r
    channels, height, width = d.shape
    _warm_up(sampler, d, r)
    sampler = with_guesses(sampler, target.guesses)
    _give_back_memory()
    with PeakMemory() as before:
        pass
    with PeakMemory() as peak:
        coded = sampler.encode(d, r, random)
    merit = figure_of_merit(d, r, coded.values, 8 * len(coded.data))
    figures = {
        "kl_bits": merit.kl_bits,
        "bits": merit.bits,
        "excess_bits": merit.excess_bits,
        "side_bits": coded.side_bits,
        "encode_s": _fastest(repeat, lambda: sampler.encode(d, r, random)),
        "decode_s": _fastest(
            repeat, lambda: sampler.decode(coded.data, (channels, height, width), random)
        ),
    }
    if peak.mebibytes is None or before.mebibytes is None:
        return figures, None
    return figures, max(0.0, peak.mebibytes - before.mebibytes)


def _warm_up(sampler: Sampler, d: Array, r: Array) -> None:
    """Compile, and make tables that later calls share."""
    part = slice(None), slice(_WARM_UP), slice(_WARM_UP)
    coded = sampler.encode(d[part], r[part], SharedRandom(255, 0))
    sampler.decode(coded.data, d[part].shape, SharedRandom(255, 0))  # type: ignore[arg-type]


def _give_back_memory() -> None:
    """Free memory goes back to the system, so that taking it again shows (glibc only)."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _fastest(repeat: int, function: Callable[[], object]) -> float:
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def psnr_lost(codec: SamplingCodec, pixels: Pixels, point: float) -> float | None:
    """PSNR of a plain posterior sample less that of the coded one, in dB."""
    ideal = codec.theoretical(pixels, point)
    coded = codec.encode_pixels(pixels, point).reconstruction
    if ideal is None or coded is None:
        return None
    return psnr(pixels, ideal.pixels) - psnr(pixels, coded)


@dataclass
class SamplerBench:
    """Rows, one for each contender, point and image, and their means."""

    contenders: Sequence[Contender]
    images: Mapping[str, Pixels | None]
    """Name -> pixels; None for synthetic levels."""
    points: Sequence[float] = ()
    """Instead of the contenders' own."""
    seed: int = 0
    repeat: int = 1
    with_psnr: bool = True
    rows: list[Record] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Rows to make."""
        return len(self.images) * sum(len(self._points(one)) for one in self.contenders)

    def _points(self, contender: Contender) -> Sequence[float]:
        return self.points or contender.points

    def run(self, on_row: Callable[[Record], None] = lambda row: None) -> list[Record]:
        """Make all rows; returns the means over the images, one for each sampler and point."""
        for contender in self.contenders:
            for point in self._points(contender):
                for name, pixels in self.images.items():
                    self.rows.append(self._row(contender, point, name, pixels))
                    on_row(self.rows[-1])
        return self.means()

    def _row(self, contender: Contender, point: float, image: str, pixels: Pixels | None) -> Record:
        codec = contender.codec
        samplers = codec.samplers()
        levels = (
            synthetic_levels(point, list(samplers), self.seed)
            if pixels is None
            else codec.targets(pixels, point)
        )
        row: Record = {"sampler": contender.label, "preset": contender.name, "point": point}
        row["image"] = image
        row |= bench_levels(samplers, levels, self.seed, self.repeat)
        row["psnr_lost"] = None
        if self.with_psnr and pixels is not None:
            row["psnr_lost"] = psnr_lost(codec, pixels, point)
        return row

    def means(self) -> list[Record]:
        """Means over the images; of the memory, the largest."""
        groups: dict[tuple[str, float], list[Record]] = {}
        for row in self.rows:
            groups.setdefault((row["preset"], row["point"]), []).append(row)
        return [_mean(group) for group in groups.values()]


def _mean(rows: list[Record]) -> Record:
    mean: Record = {key: rows[0][key] for key in ("sampler", "preset", "point")}
    mean["images"] = len(rows)
    mean |= _fields_mean(rows, (*MEANS, *TIMES, "psnr_lost"))
    peaks = [row["peak_mb"] for row in rows if row["peak_mb"] is not None]
    mean["peak_mb"] = max(peaks) if peaks else None
    mean["levels"] = [
        {"level": level[0]["level"], **_fields_mean(level, (*MEANS, *TIMES))}
        for level in zip(*(row["levels"] for row in rows), strict=True)
    ]
    return mean


def _fields_mean(rows: Sequence[Record], keys: Iterable[str]) -> Record:
    """Of what is known; None where nothing is."""
    known = {key: [row[key] for row in rows if row[key] is not None] for key in keys}
    return {key: fmean(values) if values else None for key, values in known.items()}
