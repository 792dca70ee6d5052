"""The time that steps count for, where a schedule is in minutes."""

from __future__ import annotations

import statistics
from collections import deque

FACTOR = 5.0
"""A step counts for at most so many times the median of the last ..."""
HISTORY = 20
"""... so many. Few, so that larger crops, whose steps are longer, soon count in full."""


class StepClock:
    """Says how long each step counts for.

    A process that is suspended (SIGSTOP, a laptop asleep, a machine that swaps) takes its step half
    an hour later. Counted in full, that would move a schedule in minutes to its end.
    """

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=HISTORY)

    def counted(self, took: float) -> float:
        """Seconds that a step counts for that took ``took`` seconds: all of them, but at most
        ``FACTOR`` times the median of the steps before it in this process."""
        usual = statistics.median(self._recent) if self._recent else took
        self._recent.append(took)
        return min(took, FACTOR * usual)
