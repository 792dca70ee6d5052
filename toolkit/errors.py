"""Errors that the toolkit raises on purpose, each with its exit status.

0 done; 2 usage or unknown name; 3 bad input file; 4 plugin, program or weights missing;
5 finished with failures, or memory, disk or a reader gave out; 130 interrupted.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class ToolkitError(Exception):
    """Base of all errors that are meant for the user: one line, no traceback."""

    exit_status = 2


class UsageError(ToolkitError):
    """An argument, option, preset or name that can't be used."""


class UnknownName(UsageError):
    """A name nobody registered; the message names the nearest one."""

    def __init__(self, kind: str, name: str, known: Iterable[str], where: str = "") -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"nearest: {near[0]}" if near else f"known: {', '.join(known) or 'none'}"
        super().__init__(f"{where + ': ' if where else ''}no {kind} '{name}'; {hint}")


class InputError(ToolkitError):
    """A file or image that can't be read."""

    exit_status = 3


class MissingError(ToolkitError):
    """A plugin, program, package or weights file that isn't there."""

    exit_status = 4


class PluginError(MissingError):
    """A plugin whose parts aren't what they should be."""


class ResourceError(ToolkitError):
    """Memory, disk, or whoever reads our output gave out: no fault of file or user."""

    exit_status = 5


_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate")
_GAVE_OUT = {
    errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EPIPE,
}  # fmt: skip


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory: torch, for one, says so as RuntimeError."""
    if isinstance(error, RuntimeError):
        return any(words in str(error).lower() for words in _NO_MEMORY)
    return isinstance(error, MemoryError)


def gave_out(error: BaseException) -> bool:
    """Whether memory, disk or another resource gave out: what failed may well work another time."""
    if isinstance(error, OSError):
        return error.errno in _GAVE_OUT
    return isinstance(error, ResourceError) or out_of_memory(error)
