"""Ctrl-C reaches every process of a terminal; only the one that runs the others heeds it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Interrupts wait until the block ends, and for ever in processes that it starts, which
    would else die with a traceback while Python starts up; see ``leave_interrupts_to_parent``."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_interrupts_to_parent() -> None:
    """First thing in a process that was started while interrupts were held."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
