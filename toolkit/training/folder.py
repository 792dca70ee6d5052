"""The folder of a run: one process writes it at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from toolkit.errors import InputError, UsageError

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"
LOCK = ".lock"
_HALF_WRITTEN = re.compile(r"\.(checkpoint\.pt|curves\.png|[^/]+\.(safetensors|md))\.[a-z0-9_]{8}")
"""Temporary names of ``write_atomically``."""


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Lock the folder of a run, made if need be, while in the context; what a killed process left
    half written in it is deleted.

    Raises UsageError while another process holds it, InputError where it can't be written.
    """
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"{folder}: another run writes there; wait for it, choose another --out, or take a "
            "--branch of it"
        ) from None
    except OSError as error:
        raise InputError(f"{folder}: can't write there ({error.strerror})") from None
    try:
        for path in folder.iterdir():
            if _HALF_WRITTEN.fullmatch(path.name):
                path.unlink()
        yield folder
    finally:
        lock.release()
