"""Bounding the threads of numerical libraries, so that workers share the processors."""

from __future__ import annotations

import os
import sys

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
"""What libraries read when they are loaded."""


def set_threads(threads: int | None) -> None:
    """Bound the threads of this process's numerical libraries; None leaves them alone.

    Libraries not yet loaded, and those of child processes, go by environment variables; of
    those that are, only torch takes another number.
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
