"""What the machine has: device, arithmetic, threads."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

import torch

from toolkit.errors import MissingError
from toolkit.training.recipe import Recipe

BFLOAT16_FEATURES = ("amx_bf16", "avx512_bf16")
"""Of processors that convolve about twice as fast in bfloat16, or faster, as in float32."""


def choose_device(recipe: Recipe, local_rank: int = 0) -> torch.device:
    """The recipe's device; auto takes CUDA where there is one."""
    has_cuda = torch.cuda.is_available()
    if recipe.device == "cuda" and not has_cuda:
        raise MissingError("device: cuda was asked for, and torch sees no CUDA device")
    if has_cuda and recipe.device != "cpu":
        return torch.device("cuda", local_rank)
    return torch.device("cpu")


def choose_precision(recipe: Recipe, device: torch.device) -> torch.dtype:
    """The recipe's precision; auto takes bfloat16 on CUDA, and on CPUs that have instructions for
    it. What the processor has, not how fast it is now: a stopwatch errs on a busy machine."""
    if recipe.precision != "auto":
        return torch.bfloat16 if recipe.precision == "bfloat16" else torch.float32
    has = torch.cpu.get_capabilities()
    fast = device.type == "cuda" or any(has.get(name) for name in BFLOAT16_FEATURES)
    return torch.bfloat16 if fast else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager[None]:
    """Mixed precision for ``dtype``, or nothing for float32."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype)


class ThreadTuner:
    """Runs steps with as many torch threads as make them fastest on this machine, now.

    On a machine that other programs share, two threads that wait for each other can be
    slower than one, and who else runs changes by the second. So every ``interval`` seconds
    one step is run with another thread count, and the faster of the two stays. Where such a step
    takes long, the next is farther off: trials take at most a tenth of the time.
    """

    def __init__(self, threads: int | str, interval: float = 6.0) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        automatic = threads == "auto"
        self.candidates = (
            sorted({1, max(1, (cores or 1) // 2), cores or 1}) if automatic else [int(threads)]
        )
        self.count = self.candidates[-1]
        self.seconds = float("inf")
        self.interval = interval
        self.next_trial = time.monotonic() + interval
        self.turn = 0
        torch.set_num_threads(self.count)

    def run(self, step: Callable[[], None]) -> None:
        """Run one step, with another thread count where a trial is due."""
        if len(self.candidates) == 1 or time.monotonic() < self.next_trial:
            self.seconds = _timed(step)
            return
        self.turn += 1
        others = [count for count in self.candidates if count != self.count]
        trial = others[self.turn % len(others)]
        torch.set_num_threads(trial)
        seconds = _timed(step)
        if seconds < self.seconds:
            self.count = trial
        torch.set_num_threads(self.count)
        self.next_trial = time.monotonic() + max(self.interval, 9 * seconds)


def _timed(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start
