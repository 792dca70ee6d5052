"""Checks of samples: round trips, repeatability, cost, threads, exactness."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.sampling.figure_of_merit import figure_of_merit
from toolkit.sampling.randomness import SharedRandom
from toolkit.testing.exactness import deviation
from toolkit.testing.subject import ConformanceError, Report, Subject, differing
from toolkit.testing.targets import (
    Targets,
    narrow_targets,
    random_targets,
    special_targets,
    typical_level,
)

DRAWS = 20_000
"""Draws for the tests of exactness."""
EXACT_TARGETS = (
    *((0.0, 0.5), (1.0, 0.6), (-0.4, 0.9), (1.5, 0.25)),
    *((-1.5, 1.0), (0.0, 1.6), (1.4, 1.2), (-6.0, 0.8)),
)
"""d and r for these tests; among them some as wide as the prior, wider, and far from it."""
NUMBERS_AN_ELEMENT = 256
"""Most shared random numbers that a decoder may make for each latent element."""


def check_round_trips(subject: Subject, report: Report, count: int, slow: bool) -> None:
    """Encoder's sample = decoder's, bit for bit, whatever the target."""

    def levels() -> Iterator[Targets]:
        yield from special_targets()
        yield from random_targets(count, subject.seed)
        if slow:
            yield typical_level((256, 64, 64), subject.seed)

    for t in levels():
        subject.round_trip(t)
        report.targets += 1
    report.checks.append("round trips")


def check_typical(subject: Subject, report: Report) -> None:
    """Repeatable, whatever was coded before; rate, bias and times go into the report."""
    t = typical_level((32, 16, 24), subject.seed)
    used = subject.make()
    subject.encode(next(random_targets(1, subject.seed + 1)), used)
    start = time.perf_counter()
    coded = subject.encode(t, used)
    middle = time.perf_counter()
    values = subject.decode(coded.data, t)
    report.encode_s, report.decode_s = middle - start, time.perf_counter() - middle
    if subject.encode(t).data != coded.data or differing(values, coded.values):
        raise ConformanceError(
            "repeatability", f"{t.label}: a second encoding gives other bytes than the first"
        )
    report.figure_of_merit = figure_of_merit(t.d, t.r, values, 8 * len(coded.data))
    report.side_percent = 100 * coded.side_bits / report.figure_of_merit.kl_bits
    errors = (values.astype(np.float64) - t.d) / t.r
    report.mean_bias = float(np.mean(np.sign(t.d) * errors))
    report.width_ratio = float(np.sqrt(np.mean(errors**2)))
    report.checks.append("repeatability")


class _CountingRandom(SharedRandom):
    """Counts the numbers that are drawn."""

    count = 0

    def words(self, stream: int, rows: Any, width: int) -> NDArray[np.uint32]:
        self.count += np.size(rows) * width
        return super().words(stream, rows, width)

    def normals(self, stream: int, rows: Any, width: int) -> NDArray[np.float32]:
        self.count += np.size(rows) * width
        return super().normals(stream, rows, width)


def check_random_access(subject: Subject, report: Report) -> None:
    """The decoder makes the draws that were chosen, not all those that the encoder tried."""
    t = narrow_targets((16, 32, 32), 9.0, subject.seed)
    coded = subject.encode(t)
    random = _CountingRandom(subject.seed, 1)
    subject.decode(coded.data, t, random)
    allowed = NUMBERS_AN_ELEMENT * t.d.size
    if random.count > allowed:
        raise ConformanceError(
            "cost of decoding",
            f"{t.label}: the decoder draws {random.count} numbers for {t.d.size} elements, more "
            f"than {NUMBERS_AN_ELEMENT} each: does it replay the encoder's search?",
        )
    report.checks.append("cost of decoding")


def check_threads(subject: Subject, report: Report) -> None:
    """The same bytes whatever the number of threads, within one call and beside it."""
    t = typical_level((16, 24, 32), subject.seed)
    expected = subject.encode(t).data

    def run(threads: int) -> bytes:
        sampler = subject.make()
        if hasattr(sampler, "threads"):
            sampler.threads = threads
        return subject.encode(t, sampler).data

    for threads in (1, 2, 4):
        with ThreadPoolExecutor(threads) as pool:
            for data in pool.map(run, [threads] * threads):
                if data != expected:
                    raise ConformanceError(
                        "threads", f"{t.label}: other bytes with {threads} threads than with one"
                    )
    report.checks.append("threads")


def check_exactness(subject: Subject, report: Report) -> None:
    """What claims to be exact has the target's moments, distribution and independence."""
    for d, r in EXACT_TARGETS:
        shape = (4, 50, DRAWS // 200)
        t = Targets(f"{DRAWS} draws of N({d:g}, {r:g}^2)", np.full(shape, d), np.full(shape, r))
        values = subject.encode(t).values
        wrong = deviation((values.astype(np.float64).ravel() - d) / r, subject.seed)
        if wrong:
            raise ConformanceError(
                "exactness", f"{t.label}: the sampler claims to be exact, but {wrong}"
            )
    report.checks.append("exactness")
