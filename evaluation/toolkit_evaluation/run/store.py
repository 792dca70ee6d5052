"""Where results are kept: a folder with ``rows.jsonl``, one row a line, only ever appended to.

A row counts once its line is complete; of two with one key the later counts. A
last line that a crash tore is cut off when the store is opened, with a notice. A lock keeps
two runs apart; the operating system drops it when its process ends, however it ends.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec
from filelock import FileLock, Timeout

from toolkit.errors import InputError, UsageError
from toolkit.format.files import write_bytes_atomically
from toolkit_evaluation.results.row import Row

ROWS = "rows.jsonl"
RUN = "run.json"
LOCK = ".lock"
SYNC_EVERY = 0.25
"""Seconds within which rows share one sync to disk: it can take longer than a small image."""


class Store(Protocol):
    """What the runner needs of a store."""

    def get(self, key: str) -> Row | None:
        """The row of this key, if there is one."""

    def holds(self, row: Row) -> bool:
        """Whether there is a row of this key, image and codec."""
        ...

    def add(self, row: Row) -> None:
        """Keep a row for good, before this returns."""


class MemoryStore:
    """A store that forgets: for evaluations in the library that name no folder."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}

    def get(self, key: str) -> Row | None:
        """See ``Store``."""
        return self._rows.get(key)

    def holds(self, row: Row) -> bool:
        """See ``Store``."""
        return _named(row) in map(_named, self._rows.values())

    def add(self, row: Row) -> None:
        """See ``Store``."""
        self._rows[row.key] = row


class _Commands(msgspec.Struct, frozen=True):
    """The commands in ``run.json``."""

    command: list[str] = []
    earlier_commands: list[list[str]] = []


class FolderStore:
    """A store in a folder, held by one process at a time.

    Raises UsageError while another process holds it, InputError where it can't be written.
    Use it as a context.
    """

    def __init__(self, folder: Path, notice: Callable[[str], None] = lambda text: None) -> None:
        self.folder = Path(folder)
        self._notice = notice
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / LOCK)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(
                f"{self.folder}: another run writes here; wait for it or choose another --out"
            ) from None
        except OSError as error:
            raise InputError(f"{self.folder}: can't write there ({error.strerror})") from None
        try:
            path = self.folder / ROWS
            _cut_torn_end(path, notice)
            self._rows: dict[str, Row] = {}
            self._names: set[tuple[str, str, str]] = set()
            for row in read_rows(path, notice):
                self._remember(row)
            self._synced = -math.inf
            self._file = open(path, "ab")  # noqa: SIM115 - held for the run's length
        except BaseException:
            self._lock.release()
            raise

    def get(self, key: str) -> Row | None:
        """See ``Store``."""
        return self._rows.get(key)

    def holds(self, row: Row) -> bool:
        """See ``Store``."""
        return _named(row) in self._names

    def _remember(self, row: Row) -> None:
        self._rows[row.key] = row
        self._names.add(_named(row))

    def add(self, row: Row) -> None:
        """See ``Store``."""
        self._file.write(msgspec.json.encode(row.to_dict()) + b"\n")
        self._file.flush()  # from here on it survives this process
        now = time.monotonic()
        if now - self._synced >= SYNC_EVERY:
            os.fsync(self._file.fileno())  # from here on the system's end, too
            self._synced = now
        self._remember(row)

    def write_run(self, record: dict[str, Any]) -> None:
        """Replace ``run.json``; the commands of runs before stay in it."""
        record = {**record, "earlier_commands": self._earlier_commands(record["command"])}
        write_bytes_atomically(
            self.folder / RUN, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
        )

    def _earlier_commands(self, command: list[str]) -> list[list[str]]:
        """Commands other than this one that have worked in the folder, oldest first."""
        try:
            before = msgspec.json.decode((self.folder / RUN).read_bytes(), type=_Commands)
        except (OSError, ValueError, RecursionError):  # none yet, or not one that we wrote
            return []
        found = [words for words in (*before.earlier_commands, before.command) if words != command]
        return [words for at, words in enumerate(found) if words and words not in found[:at]]

    def close(self) -> None:
        """Let another process have the folder."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._lock.release()

    def __enter__(self) -> FolderStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _named(row: Row) -> tuple[str, str, str]:
    """What a row is the result of, and under which names."""
    return row.key, row.image, row.codec


def read_rows(path: Path, notice: Callable[[str], None] = lambda text: None) -> Iterator[Row]:
    """The rows of a file in their order; a line that is none is left out with a notice."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            row = _row(line)
            if row is None:
                notice(f"{path}:{number}: not a row; left out, and computed again if asked for")
            else:
                yield row


def _row(line: bytes) -> Row | None:
    try:
        plain = msgspec.json.decode(line, type=dict[str, Any])
        return Row.from_dict(plain) if line.endswith(b"\n") else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _cut_torn_end(path: Path, notice: Callable[[str], None]) -> None:
    """Cut off what follows the last line end: a row whose write was interrupted."""
    if not path.exists():
        return
    with open(path, "r+b") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            at = file.read(end - start).rfind(b"\n")
            if at >= 0:
                end = start + at + 1
                break
            end = start
        if end < size:
            file.truncate(end)
            os.fsync(file.fileno())
            notice(f"{path}: the last row was cut short ({size - end} bytes); dropped")
