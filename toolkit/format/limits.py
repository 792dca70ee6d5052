"""What a file may ask for, before anything is allocated for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from toolkit.errors import ResourceError, UsageError
from toolkit.format.errors import LimitExceeded

LEAST_PIXEL_BYTES = 16
"""What any decoder needs at least for a pixel: its samples twice, and once as float32."""
_HEADROOM = 2**27
"""What is left to a process that has more than it may, so that it can say so."""
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


@dataclass(frozen=True)
class Limits:
    """What a file may ask for. Larger files are refused before anything is allocated."""

    file_bytes: int = 256 * 2**20
    pixels: int = 178_956_970
    """The point from which Pillow refuses images too."""
    side: int = 65_535
    header_bytes: int = 64 * 2**10
    streams: int = 64
    unproven_pixels: int = 2**24
    """A file of any length may claim so many pixels."""
    pixels_per_byte: int | None = 2**16
    """Beyond that, so many for each of its bytes (a byte for 256 x 256 pixels: real pictures have
    hundreds); None: as many as it likes."""
    memory: int | None = None
    """Bytes that decoding or encoding may take; None: as many as there are."""


LIMITS = Limits()
_current = LIMITS


def current_limits() -> Limits:
    """The limits in force: ``LIMITS``, or those of ``limited``."""
    return _current


@contextmanager
def limited(pixels: int | None = None, memory: int | None = None) -> Iterator[Limits]:
    """Other limits for a while, in the whole process.

    Arguments:
        pixels: the most that a picture may have; one given is believed, however short the file.
        memory: bytes that this process may take, kept by the system where it can.
    """
    global _current
    before = _current
    changed = before
    if pixels is not None:
        changed = replace(changed, pixels=pixels, pixels_per_byte=None)
        changed = replace(changed, side=max(changed.side, min(pixels, 2**31 - 1)))
    if memory is not None:
        changed = replace(changed, memory=memory)
    _current = changed
    try:
        with _memory_kept(memory):
            yield changed
    finally:
        _current = before


@contextmanager
def _memory_kept(memory: int | None) -> Iterator[None]:
    """Have the system refuse more: allocations fail then, and what failed says so."""
    if memory is None:
        yield
        return
    try:
        import resource
    except ImportError:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = max(memory, _data_size() + _HEADROOM)
    wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    try:
        yield
    finally:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_size() -> int:
    """Bytes of data that this process has already."""
    with suppress(OSError, ValueError, IndexError), open("/proc/self/statm") as file:
        import os

        return int(file.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def parse_size(text: str) -> int:
    """Bytes that a text like ``2G``, ``500M`` or ``1073741824`` means. Raises UsageError."""
    number = text.strip().lower().removesuffix("b").removesuffix("i")
    unit = number[-1:] if number[-1:].isalpha() else ""
    with suppress(ValueError, KeyError, OverflowError):
        size = int(float(number.removesuffix(unit)) * _UNITS[unit])
        if size > 0:
            return size
    raise UsageError(f"'{text}' is no size: write it like 2G, 500M or 1073741824")


def check_limit(what: str, value: int, limit: int) -> None:
    """Raises LimitExceeded."""
    if value > limit:
        raise LimitExceeded(
            f"{value} {what}, the limit is {limit}: damaged, or raise the limit if you trust it"
        )


def check_size(width: int, height: int, limits: Limits | None = None) -> None:
    """Whether a picture may be so large. Raises LimitExceeded, ResourceError."""
    limits = limits or current_limits()
    if max(width, height) > limits.side:
        raise LimitExceeded(
            f"{width}x{height}: {max(width, height)} pixels a side, the limit is {limits.side}: "
            "damaged, or raise it (--max-pixels) if you trust it"
        )
    pixels = width * height
    if pixels > limits.pixels:
        raise LimitExceeded(
            f"{width}x{height} are {pixels} pixels, the limit is {limits.pixels}: damaged, or "
            "raise it (--max-pixels) if you trust it"
        )
    check_memory(height, width, lambda height, width: LEAST_PIXEL_BYTES * pixels, limits)


def check_memory(
    height: int, width: int, needed: Callable[[int, int], int], limits: Limits | None = None
) -> None:
    """Whether coding or decoding a picture may take as much memory as it will.

    Arguments:
        needed: bytes, about and from above, that a process will hold for a picture of this height
            and width. Only called where memory is limited.

    Raises ResourceError.
    """
    limits = limits or current_limits()
    if limits.memory is None:
        return
    size = needed(height, width)
    if size > limits.memory:
        raise ResourceError(
            f"{width}x{height} pixels take about {-(-size // 2**20)} MiB, the limit is "
            f"{limits.memory / 2**20:.4g} MiB (--max-memory)"
        )


def check_claim(width: int, height: int, size: int, limits: Limits | None = None) -> None:
    """``check_size``, and whether a file of ``size`` bytes can well hold so many pixels.

    Raises ResourceError, and LimitExceeded: without it, 66 bytes would make a decoder ask for
    gigabytes.
    """
    limits = limits or current_limits()
    check_size(width, height, limits)
    pixels, most = width * height, limits.pixels_per_byte
    if most is not None and pixels > max(limits.unproven_pixels, size * most):
        raise LimitExceeded(
            f"{width}x{height} pixels in {size} bytes: damaged, or made to take your memory; "
            f"--max-pixels {pixels} if you trust it"
        )
