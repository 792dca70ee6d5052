"""Writing files so that they are complete or absent, and never over what isn't meant."""

from __future__ import annotations

import errno
import io
import os
import secrets
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from toolkit.errors import InputError, ResourceError, UsageError

TEMPORARY = ".toolkit-"
"""What the names of temporary files begin with; they fit wherever any name does."""
_STREAMS = ("/dev/", "/proc/")
_RUN_OUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE, errno.ENOMEM)


def check_output(path: Path, overwrite: bool = False, inputs: Iterable[Path] = ()) -> None:
    """Whether ``path`` may be written, told before any work is done.

    Arguments:
        path: where the output goes.
        overwrite: whether a file that is there may be replaced.
        inputs: files that must not be, whatever ``overwrite`` says.

    Raises:
        UsageError: it is a folder, a block device, one of ``inputs``, or there already.
        InputError: its folder isn't there, or it can't be reached.
    """
    found = _stat(path)
    if found is None:
        if not os.path.isdir(os.path.dirname(os.path.realpath(path))):
            raise InputError(f"{path}: can't write there (No such file or directory)")
        return
    if stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{path}: a folder, not a file to write")
    if stat.S_ISBLK(found.st_mode):
        raise UsageError(f"{path}: a block device, not a file to write")
    if not stat.S_ISREG(found.st_mode):
        return
    for other in inputs:
        with suppress(OSError):
            if os.path.samestat(found, os.stat(other)):
                raise UsageError(f"{path}: it is the input; choose another name for the output")
    if not overwrite:
        raise UsageError(f"{path}: there already; --force replaces it")


def write_atomically(
    path: Path, write: Callable[[BinaryIO], object], overwrite: bool = True
) -> None:
    """Have ``write`` fill a temporary file beside ``path``, sync it, and move it into place.

    Whatever stops the program, ``path`` holds what it held before or all of the new content. A
    link stays a link: what it points to is replaced. A file that is replaced keeps its mode and,
    where the system lets it, its owner. What isn't a regular file (a device, a pipe) is written to.

    Raises:
        InputError: nothing can be written there.
        UsageError: a folder or a block device; or a file is there and ``overwrite`` is false.
        ResourceError: disk or quota is full, or nobody reads the pipe any more.
    """
    path = Path(path)
    found = _stat(path)
    if found is not None and not stat.S_ISREG(found.st_mode):
        check_output(path)
    if str(path).startswith(_STREAMS) or (found is not None and not stat.S_ISREG(found.st_mode)):
        _write_through(path, write)
        return
    target = Path(os.path.realpath(path))
    if found is not None and not os.access(target, os.W_OK):
        raise InputError(f"{path}: can't write there (it is read-only)")
    temporary = target.with_name(f"{TEMPORARY}{secrets.token_hex(8)}.tmp")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise _refused(path, error) from None
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            if found is not None:
                _keep_mode(file.fileno(), found)
            os.fsync(file.fileno())
        _move(temporary, target, overwrite)
    except FileExistsError:
        raise UsageError(f"{path}: there already; --force replaces it") from None
    except OSError as error:
        if error.errno is None:  # a message of whatever library wrote
            raise
        raise _refused(path, error) from None
    finally:
        with suppress(OSError):
            os.unlink(temporary)
    _sync_folder(target.parent)


def write_bytes_atomically(path: Path, data: bytes, overwrite: bool = True) -> None:
    """``write_atomically`` of bytes at hand."""
    write_atomically(path, lambda file: file.write(data), overwrite)


def write_stream(file: BinaryIO, data: bytes, name: str) -> None:
    """Write ``data`` to an open stream such as standard output.

    Raises ResourceError, saying ``name``, where nobody reads it or no room is left.
    """
    try:
        file.write(data)
        file.flush()
    except OSError as error:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())  # for the flush at exit
        raise ResourceError(f"{name}: can't be written ({error.strerror})") from None


def _stat(path: Path) -> os.stat_result | None:
    """What ``path`` leads to; None where nothing is there yet. Raises InputError."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't write there ({_reason(error)})") from None


def _write_through(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Into what is there: made whole first, since writers may seek."""
    content = io.BytesIO()
    write(content)
    try:
        with open(path, "wb", buffering=0) as file:
            rest = content.getbuffer()
            while rest:
                rest = rest[file.write(rest) :]
    except OSError as error:
        raise _refused(path, error) from None


def _keep_mode(descriptor: int, found: os.stat_result) -> None:
    with suppress(OSError):
        if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(descriptor, found.st_uid, found.st_gid)
    with suppress(OSError):
        os.fchmod(descriptor, stat.S_IMODE(found.st_mode))


def _move(temporary: Path, target: Path, overwrite: bool) -> None:
    """Raises FileExistsError where a file came to be there and must stay."""
    if not overwrite:
        try:
            os.link(temporary, target)
            return
        except FileExistsError:
            raise
        except OSError:  # no hard links here
            if os.path.lexists(target):
                raise FileExistsError from None
    os.replace(temporary, target)


def _sync_folder(folder: Path) -> None:
    """So that the new name outlives a power cut; not every file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _refused(path: Path, error: OSError) -> InputError | ResourceError:
    if error.errno in _RUN_OUT:
        return ResourceError(f"{path}: can't be written ({_reason(error)})")
    return InputError(f"{path}: can't write there ({_reason(error)})")


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
