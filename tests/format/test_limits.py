"""Limits on what a file may ask for: as options, as sizes, and kept by the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from toolkit.errors import ResourceError, UsageError
from toolkit.format.errors import LimitExceeded
from toolkit.format.limits import (
    LIMITS,
    check_claim,
    check_size,
    current_limits,
    limited,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [("2G", 2**31), ("500M", 500 * 2**20), ("1.5k", 1536), ("4096", 4096), ("3 GiB", 3 * 2**30)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "0", "many", "2X", "1e999", "nan"])
def test_what_is_no_size_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="no size"):
        parse_size(text)


def test_limits_hold_for_a_while_and_nest() -> None:
    with limited(pixels=1000):
        with pytest.raises(LimitExceeded, match="the limit is 1000"):
            check_size(50, 50)
        with limited(memory=2**20):
            assert (current_limits().pixels, current_limits().memory) == (1000, 2**20)
        check_size(50, 20)
    assert current_limits() is LIMITS
    check_size(50, 50)


def test_memory_is_checked_before_it_is_asked_for() -> None:
    with (
        limited(memory=2**26),
        pytest.raises(ResourceError, match=r"256 MiB, the limit is 64 MiB \(--max-memory\)"),
    ):
        check_claim(4096, 4096, 10**6)


@pytest.mark.parametrize(
    ("side", "size", "good"),
    [(4096, 1, True), (8192, 1024, True), (8192, 1023, False), (13_000, 300, False)],
)
def test_a_file_holds_no_more_pixels_than_its_length_makes_plausible(
    side: int, size: int, good: bool
) -> None:
    if good:
        check_claim(side, side, size)
        return
    with pytest.raises(LimitExceeded, match="made to take your memory"):
        check_claim(side, side, size)
    with limited(pixels=side * side):
        check_claim(side, side, size)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts all of a process's data")
def test_the_system_keeps_the_memory_of_a_process() -> None:
    """In a process of its own, since it may not get back what it has."""
    program = (
        "from toolkit.format.limits import limited\n"
        "with limited(memory=2**29):\n"
        "    try:\n        bytearray(2**30)\n"
        "    except MemoryError:\n        print('refused')\n"
        "print(len(bytearray(2**30)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["refused", str(2**30)], done.stderr
