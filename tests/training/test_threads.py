"""How many threads steps take: the count that is fastest here and now, found at little cost."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from toolkit.training import device


def test_trials_of_another_thread_count_take_a_tenth_of_the_time_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a busy machine, where two threads wait for each other."""
    now, spent, before = 0.0, {1: 0.0, 2: 0.0}, torch.get_num_threads()
    clock = SimpleNamespace(monotonic=lambda: now, perf_counter=lambda: now)
    monkeypatch.setattr(device, "time", clock)
    monkeypatch.setattr(device.os, "sched_getaffinity", lambda _: range(2), raising=False)

    def step() -> None:
        nonlocal now
        seconds = 13.0 if torch.get_num_threads() == 2 else 0.2
        spent[torch.get_num_threads()] += seconds
        now += seconds

    try:
        tuner = device.ThreadTuner("auto")
        while now < 1000:
            tuner.run(step)
        assert tuner.count == 1
    finally:
        torch.set_num_threads(before)
    assert 0 < spent[2] < 0.15 * spent[1]
