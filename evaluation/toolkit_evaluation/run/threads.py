"""Bounding the threads of numerical libraries, so that workers share the processors."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
"""What libraries read when they are loaded."""


def set_threads(threads: int | None) -> None:
    """Bound the threads of this process's numerical libraries; None leaves them alone.

    Libraries not yet loaded, and those of child processes, go by environment variables; of
    those that are, only torch can be told.
    """
    if threads is None:
        return
    os.environ.update(dict.fromkeys(VARIABLES, str(threads)))
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)


@contextmanager
def threads_of_children(threads: int | None) -> Iterator[None]:
    """Processes started in the block have so many threads from the first library they load."""
    before = {name: os.environ.get(name) for name in VARIABLES}
    if threads is not None:
        os.environ.update(dict.fromkeys(VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
