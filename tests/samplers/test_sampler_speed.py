"""Benchmarks of the coded samplers (``./run bench``); without benchmarks, one run each."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from toolkit.plugin.loader import load_plugins
from toolkit.sampling.choice import SamplerChoice
from toolkit.sampling.randomness import SharedRandom
from toolkit_evaluation.data.synthetic import synthetic_level

SAMPLERS = [
    {"sampler": "trellis", "nu": 10},
    {"sampler": "trellis", "nu": 12},
    {"sampler": "importance"},
    {"sampler": "greedy"},
    {"sampler": "irec"},
    {"sampler": "ordered"},
    {"sampler": "poisson"},
    {"sampler": "rejection"},
    {"sampler": "harsha"},
    {"sampler": "astar"},
]


@pytest.fixture(params=SAMPLERS, ids=lambda options: "-".join(map(str, options.values())))
def sampler(request: pytest.FixtureRequest):
    return SamplerChoice.from_options(load_plugins(), request.param, "benchmark").build()


def test_all_samplers_are_here():
    assert {options["sampler"] for options in SAMPLERS} == set(load_plugins().samplers)


LEVEL = synthetic_level((64, 24, 32))


def test_encoding(benchmark: BenchmarkFixture, sampler):
    coded = benchmark(sampler.encode, *LEVEL, SharedRandom(1, 0))
    assert coded.values.shape == LEVEL[0].shape


def test_decoding(benchmark: BenchmarkFixture, sampler):
    coded = sampler.encode(*LEVEL, SharedRandom(1, 0))
    values = benchmark(sampler.decode, coded.data, LEVEL[0].shape, SharedRandom(1, 0))
    np.testing.assert_array_equal(values, coded.values)
