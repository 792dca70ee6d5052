"""Conformance kit of metrics."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import ToolkitError
from toolkit.plugin.contracts import metric_problem
from toolkit.plugin.specs import MetricSpec
from toolkit.testing.pictures import picture
from toolkit.testing.subject import ConformanceError, described

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels
    from toolkit.plugin.loader import Plugins

SMALL = 192
"""Pixels a side under which a metric may say NaN, or raise a ToolkitError: not defined there."""
NOISES = (2.0, 8.0, 24.0)
"""Standard deviations of the noise that a metric must tell apart."""


@dataclass
class MetricReport:
    """What was found about a metric that passed."""

    metric: str
    identical: float = math.nan
    """Its value for identical pictures."""
    noisy: tuple[float, ...] = ()
    """Its values for more and more noise (``NOISES``)."""
    undefined_below: int = 0
    """Largest side that was tried and that it has no value for (NaN); 0: none."""
    checks: list[str] = field(default_factory=list)
    """Checks passed, in order."""

    def __str__(self) -> str:
        noisy = ", ".join(f"{value:.4g}" for value in self.noisy)
        return (
            f"{self.metric}: {', '.join(self.checks)}; identical {self.identical:.4g}, noise of "
            f"{', '.join(f'{sigma:g}' for sigma in NOISES)}: {noisy}"
        )


def check_metric(
    metric: str | MetricSpec | Callable[[Pixels, Pixels], float],
    *,
    higher_is_better: bool = True,
    plugins: Plugins | None = None,
    seed: int = 0,
) -> MetricReport:
    """Put a metric through all checks.

    Arguments:
        metric: Its name, its descriptor, or the function itself.
        higher_is_better: What a function claims; descriptors say it themselves.
        plugins: Where a name is looked up; all that are installed by default.
        seed: Of the pictures.

    Raises ConformanceError that says which check failed and what was seen.
    """
    if isinstance(metric, str):
        from toolkit.plugin.loader import load_plugins

        metric = (plugins or load_plugins()).metric(metric)
    if isinstance(metric, MetricSpec):
        metric.prepare()
        name, function, better = metric.name, metric.loaded, metric.higher_is_better
    else:
        name, function, better = getattr(metric, "__name__", "metric"), metric, higher_is_better
    if problem := metric_problem(function):
        raise ConformanceError("arguments", f"{name} {problem}")
    subject = _Subject(function, seed)
    report = MetricReport(name)
    _check_sizes(subject, report)
    _check_identical(subject, report)
    _check_noise(subject, report, better)
    _check_repeatable(subject, report)
    return report


class _Subject:
    """A metric under test: every call is checked for what any call must keep."""

    def __init__(self, function: Callable[[Pixels, Pixels], Any], seed: int) -> None:
        self.function = function
        self.seed = seed

    def __call__(self, original: Pixels, decoded: Pixels, what: str) -> float:
        pair = original.copy(), decoded.copy()
        try:
            value = self.function(*pair)
        except Exception as error:
            if isinstance(error, ToolkitError) and min(original.shape[:2]) < SMALL:
                return math.nan
            raise ConformanceError("values", f"{what}: it raised {described(error)}") from error
        for image, before, word in zip(
            pair, (original, decoded), ("original", "decoded picture"), strict=True
        ):
            if not np.array_equal(image, before):
                raise ConformanceError("inputs", f"{what}: it changes the {word}")
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
            raise ConformanceError(
                "values", f"{what}: it must return a float, not {type(value).__name__}"
            )
        return float(value)

    def noisy(self, original: Pixels, sigma: float) -> Pixels:
        """``original`` with noise; gray where that is."""
        random = np.random.default_rng([self.seed, round(10 * sigma)])
        noise = random.normal(0, sigma, original.shape)
        if not np.ptp(original, axis=2).any():
            noise[:] = noise[:, :, :1]
        return np.clip(np.rint(original + noise), 0, 255).astype(np.uint8)


def _pictures(seed: int) -> Iterator[tuple[str, Pixels]]:
    """Colour and gray, as metrics get them: three channels; portrait, landscape and small."""
    for height, width in ((SMALL, 256), (256, SMALL), (64, 64), (17, 31), (1, 1)):
        yield f"RGB {width}x{height}", picture(height, width, 3, seed)
        gray = np.repeat(picture(height, width, 1, seed), 3, axis=2)
        yield f"gray {width}x{height}", gray
    yield f"black {SMALL}x{SMALL}", np.zeros((SMALL, SMALL, 3), np.uint8)


def _check_sizes(subject: _Subject, report: MetricReport) -> None:
    """A number for every picture, NaN for small ones only."""
    for what, original in _pictures(subject.seed):
        for label, decoded in (("", original), (", with noise", subject.noisy(original, 8))):
            value = subject(original, decoded, what + label)
            least = min(original.shape[:2])
            if math.isnan(value) and least < SMALL:
                report.undefined_below = max(report.undefined_below, least)
            elif math.isnan(value):
                raise ConformanceError("values", f"{what}{label}: it is NaN")
            elif math.isinf(value) and label and original.any() and least > 1:
                raise ConformanceError("values", f"{what}{label}: it is {value}")
    report.checks.append("sizes")


def _check_identical(subject: _Subject, report: MetricReport) -> None:
    """Identical pictures have one best value, whatever they show."""
    first, second = (picture(SMALL, SMALL, 3, subject.seed + i) for i in (1, 2))
    report.identical = subject(first, first, "identical pictures")
    other = subject(second, second, "identical pictures")
    if not (other == report.identical or math.isclose(other, report.identical, abs_tol=1e-4)):
        raise ConformanceError(
            "identical pictures",
            f"{report.identical:g} for one pair, {other:g} for another: it should be the best "
            "that there is",
        )
    report.checks.append("identical pictures")


def _check_noise(subject: _Subject, report: MetricReport, higher_is_better: bool) -> None:
    """Less noise is better, in the direction that the metric claims."""
    original = picture(SMALL, SMALL + 32, 3, subject.seed + 3)
    values = [
        subject(original, subject.noisy(original, sigma), f"noise of {sigma:g}") for sigma in NOISES
    ]
    report.noisy = tuple(values)
    signed = [value if higher_is_better else -value for value in (report.identical, *values)]
    steps = itertools.pairwise(signed)
    if not all(less > more for less, more in steps):
        told_values = ", ".join(f"{value:g}" for value in values)
        raise ConformanceError(
            "direction",
            f"it says that {'higher' if higher_is_better else 'lower'} is better, but gives "
            f"{report.identical:g} for identical pictures and {told_values} for more and more "
            "noise",
        )
    report.checks.append("direction")


def _check_repeatable(subject: _Subject, report: MetricReport) -> None:
    """The same pictures, the same value, whatever came before."""
    original = picture(SMALL, SMALL, 3, subject.seed + 4)
    decoded = subject.noisy(original, 5)
    first = subject(original, decoded, "a pair")
    subject(decoded, original, "the pair the other way round")
    second = subject(original, decoded, "the pair again")
    if first != second:
        raise ConformanceError(
            "repeatability", f"{first!r}, then {second!r} for the same pair of pictures"
        )
    report.checks.append("repeatability")
