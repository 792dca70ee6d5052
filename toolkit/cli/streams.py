"""Files and standard streams of the commands, and errors that name them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toolkit.errors import InputError, ResourceError, ToolkitError, UsageError, out_of_memory

STANDARD = Path("-")
"""As an argument: standard input or standard output."""


def input_name(path: Path) -> str:
    """What messages call an input."""
    return "standard input" if path == STANDARD else str(path)


def output_name(path: Path) -> str:
    """What messages call an output."""
    return "standard output" if path == STANDARD else str(path)


def read_input(path: Path) -> bytes:
    """The bytes of a file or of standard input, their number checked. Raises InputError."""
    from toolkit.format.container import read_file, read_open_file

    if path != STANDARD:
        return read_file(path)
    if sys.stdin is None:
        raise InputError("standard input is closed")
    try:
        return read_open_file(sys.stdin.buffer)
    except OSError as error:
        raise InputError(f"standard input: {error.strerror}") from None


def check_output_file(path: Path, force: bool, *inputs: Path) -> None:
    """Whether the output may be written, before any work. Raises UsageError, InputError."""
    from toolkit.format.files import check_output

    if path != STANDARD:
        check_output(path, force, [file for file in inputs if file != STANDARD])
    elif sys.stdout is None:
        raise UsageError("standard output is closed")
    elif sys.stdout.isatty():
        raise UsageError("standard output is a terminal: redirect it, or name a file")


def write_output(path: Path, data: bytes, force: bool) -> None:
    """Write a whole file, or all of it to standard output."""
    from toolkit.format.files import write_bytes_atomically, write_stream

    if path == STANDARD:
        sys.stdout.flush()
        write_stream(sys.stdout.buffer, data, "standard output")
    else:
        write_bytes_atomically(path, data, overwrite=force)


@contextmanager
def named_errors(name: str) -> Iterator[None]:
    """Within it, whatever a codec or a library raises becomes one line that names ``name``.

    Raises:
        ToolkitError: as it was, the name before its text.
        ResourceError: memory gave out.
        InputError: for every other exception, from which a codec should have made a clearer one.
    """
    try:
        yield
    except ToolkitError as error:
        text = str(error)
        if isinstance(error, (InputError, ResourceError)) or error.exit_status == 3:
            error.args = (text if name in text else f"{name}: {text}",)
        raise
    except Exception as error:
        if out_of_memory(error):
            raise ResourceError(f"{name}: out of memory") from None
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{name}: {type(error).__name__}: {text}") from error
