"""How many threads a computation may use."""

from __future__ import annotations

import os
import sys
from functools import cache

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
"""What numerical libraries read when they are loaded."""


def set_threads(threads: int | None) -> None:
    """Bound the threads of this process's networks, samplers and numerical libraries; None
    leaves them alone.

    Libraries not yet loaded, samplers and child processes go by environment variables; of the
    libraries that are loaded, only torch takes another number.
    """
    if threads is None:
        return
    os.environ.update(dict.fromkeys(VARIABLES, str(threads)))
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)


def environment_with_threads(threads: int | None) -> dict[str, str]:
    """Environment variables for a process that has so many threads from the first library it
    loads; None leaves them alone."""
    bounds = {} if threads is None else dict.fromkeys(VARIABLES, str(threads))
    return {**os.environ, **bounds}


def threads_allowed() -> int:
    """What ``OMP_NUM_THREADS`` says, by which several processes share the processors
    (``set_threads`` sets it); else ``processors``. At least 1."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(text)) if text.isdecimal() else processors()


def processors() -> int:
    """Processors that this process may run on: fewer than the machine has in a container, or
    under ``taskset``."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def survive_forks() -> None:
    """From now on, processes that are forked from this one compute by one thread.

    A fork has no other threads than the one that forked, but torch's pool believes that its own
    are still there: the first computation by several would wait for them for ever.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_one_thread)


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)
