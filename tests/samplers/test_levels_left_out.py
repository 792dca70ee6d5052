"""Of which levels nothing is sent."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.plugin.loader import load_plugins
from toolkit.sampling.ladder import Target, encode_ladder
from toolkit.sampling.prior_refinement import refine_prior

SHAPE = (8, 16, 16)


def coded(d: float, r: float) -> tuple[bool, float, float]:
    """Of a level whose elements are all N(d, r^2): whether it is left out, its KL divergence, and
    the deviation of what the decoder gets."""
    target = Target("level1", np.full(SHAPE, d, np.float32), np.full(SHAPE, r, np.float32))
    spec = load_plugins().sampler("trellis")
    sampler = refine_prior(spec.loaded(spec.loaded.options_class()))

    def ladder():
        sample = yield target
        return lambda: sample

    found = encode_ladder(ladder(), {"level1": sampler}, 0, worth=64.0)
    (level,) = found.levels
    return level.skipped, level.kl_bits, float(np.std(np.asarray(found.show())))


def test_a_level_that_says_nothing_is_left_out() -> None:
    skipped, kl, deviation = coded(0.0, 0.998)
    assert skipped
    assert kl < 1
    assert deviation == 0


@pytest.mark.parametrize("r", [0.5, 0.7, 0.8])
def test_where_the_prior_is_too_wide_its_mean_is_like_no_sample(r: float) -> None:
    """It is likelier than exact samples, and still not what networks below expect."""
    skipped, kl, deviation = coded(0.0, r)
    assert not skipped
    assert kl > 64
    assert deviation == pytest.approx(r, rel=0.1)


def test_a_level_that_says_something_is_sent() -> None:
    skipped, _, _ = coded(0.6, 0.8)
    assert not skipped
