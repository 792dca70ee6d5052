"""How many threads a computation may use."""

from __future__ import annotations

import os


def threads_allowed() -> int:
    """What ``OMP_NUM_THREADS`` says, by which several processes share the processors (the
    harness sets it for its workers); else ``processors``. At least 1."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(text)) if text.isdecimal() else processors()


def processors() -> int:
    """Processors that this process may run on: fewer than the machine has in a container, or
    under ``taskset``."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
