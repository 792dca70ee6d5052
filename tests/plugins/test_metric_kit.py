"""check_metric: passes what is right, and names what is wrong with metrics broken on purpose."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.errors import InputError, UnknownName
from toolkit.plugin.loader import load_plugins
from toolkit.plugin.specs import MetricSpec
from toolkit.testing import ConformanceError, check_metric

EXAMPLE = Path(__file__).parents[2] / "examples" / "metric.py"
Pixels = NDArray[np.uint8]


def rmse(original: Pixels, decoded: Pixels) -> float:
    """A right one; lower is better."""
    return float(np.sqrt(np.mean(np.square(original.astype(float) - decoded))))


def refused(function: Any, which: str, message: str, higher_is_better: bool = False) -> None:
    with pytest.raises(ConformanceError, match=message) as error:
        check_metric(function, higher_is_better=higher_is_better)
    assert error.value.check == which


@pytest.mark.parametrize(("name", "identical"), [("psnr", math.inf), ("ms-ssim", 1.0)])
def test_built_in_ones_pass(name: str, identical: float) -> None:
    report = check_metric(name)
    assert report.identical == pytest.approx(identical, abs=1e-4)
    assert list(report.noisy) == sorted(report.noisy, reverse=True)
    assert report.undefined_below == (64 if name == "ms-ssim" else 0)
    assert str(report).startswith(f"{name}: sizes, identical pictures, direction, repeatability")


def test_functions_and_descriptors_pass() -> None:
    assert check_metric(rmse, higher_is_better=False).identical == 0
    spec = MetricSpec("rmse", "", f"{__name__}:rmse", higher_is_better=False)
    spec.__dict__["loaded"] = rmse
    assert check_metric(spec).metric == "rmse"
    assert check_metric("step-psnr", plugins=load_plugins([EXAMPLE])).undefined_below == 1


def test_unknown_ones() -> None:
    with pytest.raises(UnknownName, match="nearest: psnr"):
        check_metric("psn")


def test_small_pictures_may_be_refused() -> None:
    def picky(original: Pixels, decoded: Pixels) -> float:
        if len(original) < 100:
            raise InputError("too small")
        return rmse(original, decoded)

    assert check_metric(picky, higher_is_better=False).undefined_below == 64


def test_arguments() -> None:
    refused(lambda original: 0.0, "arguments", "doesn't take two pictures")
    refused(3, "arguments", "is no function")


def test_values() -> None:
    refused(lambda a, b: np.zeros(3), "values", "must return a float, not ndarray")
    refused(lambda a, b: None, "values", "RGB 256x192: it must return a float, not NoneType")
    refused(lambda a, b: 1 / 0, "values", "it raised ZeroDivisionError")
    refused(lambda a, b: math.nan, "values", "RGB 256x192: it is NaN")
    infinite = lambda a, b: math.inf if (a != b).any() else 0.0  # noqa: E731
    refused(infinite, "values", "RGB 256x192, with noise: it is inf")

    def variance_ratio(original: Pixels, decoded: Pixels) -> float:
        return float(decoded.var() / original.var()) if original.var() else math.nan

    refused(variance_ratio, "values", "black 192x192: it is NaN")

    def refuses(original: Pixels, decoded: Pixels) -> float:
        raise InputError("never")

    refused(refuses, "values", r"it raised InputError \(never\)")


def test_identical_pictures() -> None:
    def mean(original: Pixels, decoded: Pixels) -> float:
        return float(decoded.mean())

    refused(mean, "identical pictures", "for one pair, .* for another")


def test_direction() -> None:
    message = r"higher is better, but gives 0 for identical pictures and 2.02\d+, 8.02\d+, 23.7\d+"
    refused(rmse, "direction", message, higher_is_better=True)
    refused(lambda a, b: 0.0, "direction", "lower is better, but gives 0")


def test_inputs() -> None:
    def overwrites(original: Pixels, decoded: Pixels) -> float:
        decoded[:] = decoded // 2
        return 0.0

    refused(overwrites, "inputs", "it changes the decoded picture")
    refused(lambda a, b: overwrites(b, a), "inputs", "it changes the original")


def test_repeatability() -> None:
    numbers = itertools.count()

    def drifts(original: Pixels, decoded: Pixels) -> float:
        return rmse(original, decoded) * (1 + 1e-6 * next(numbers))

    refused(drifts, "repeatability", "for the same pair of pictures")
