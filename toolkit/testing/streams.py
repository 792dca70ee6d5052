"""Checks of streams: read to the end and not past it; damage gives a sample or a named error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any, TypeVar

import numpy as np

from toolkit.format.errors import BadFile
from toolkit.testing.subject import (
    ConformanceError,
    Report,
    Subject,
    check_array,
    described,
    differing,
)
from toolkit.testing.targets import typical_level

T = TypeVar("T")

DAMAGE_SECONDS = 5.0
"""Longest that decoding a damaged stream may take."""


def check_stream_end(subject: Subject, report: Report) -> None:
    """The data is read to its end and not past it."""
    t = typical_level((8, 12, 10), subject.seed)
    coded = subject.encode(t)
    for more in (b"\0", b"\xff", bytes(range(1, 65))):
        try:
            values = subject.make().decode(coded.data + more, t.shape, subject.random())
        except BadFile:
            continue
        except Exception as error:
            raise ConformanceError(
                "end of stream", f"{len(more)} bytes too many: decode raised {described(error)}"
            ) from error
        if values.shape != t.shape or differing(values, coded.values):
            raise ConformanceError(
                "end of stream",
                f"{len(more)} bytes after the stream change the sample: the decoder reads past "
                "its end",
            )
        raise ConformanceError(
            "end of stream",
            f"{len(more)} bytes after the stream go unnoticed: decode must read all of its data "
            "or raise BadStream",
        )
    report.checks.append("end of stream")


def check_damage(subject: Subject, report: Report, count: int) -> None:
    """Damage gives a right-shaped, finite sample or a named error, in bounded time."""
    t = typical_level((8, 12, 10), subject.seed)
    data = subject.encode(t).data
    for label, bad in damaged_streams(data, count, subject.seed):

        def decode(bad: bytes = bad) -> Any:
            return subject.make().decode(bad, t.shape, subject.random())

        def check(values: Any, label: str = label) -> None:
            check_array(values, t.shape, f"damaged stream ({label}): the values")

        report.damaged += 1
        report.refused += is_refused(decode, check, "stream", label, DAMAGE_SECONDS)
    report.checks.append("damaged streams")


def is_refused(
    decode: Callable[[], T], check: Callable[[T], None], kind: str, label: str, seconds: float
) -> bool:
    """Whether a damaged stream or file (``kind``) is refused by name; ``check`` sees what it
    decodes to otherwise.

    Raises ConformanceError for any other error, or if decoding takes longer than ``seconds``.
    """
    try:
        found = within(seconds, decode, f"damaged {kind} ({label})")
    except BadFile:
        return True
    except ConformanceError:
        raise
    except Exception as error:
        raise ConformanceError(
            f"damaged {kind}s",
            f"{label}: decode raised {described(error)}, which isn't a BadFile such as BadStream",
        ) from error
    check(found)
    return False


def damaged_streams(data: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Streams with flipped bits, overwritten bytes, missing and inserted parts."""
    random = np.random.default_rng([seed, 77])
    yield "no data", b""
    yield "all bits set", b"\xff" * max(1, len(data))
    for number in range(max(0, count - 2)):
        at, end = sorted(random.integers(0, len(data) + 1, 2).tolist())
        kind = number % 5
        if kind == 0 and data:
            bit = int(random.integers(0, 8 * min(len(data), 40 if number % 2 else len(data))))
            changed = bytearray(data)
            changed[bit // 8] ^= 128 >> bit % 8
            yield f"bit {bit} flipped", bytes(changed)
        elif kind == 1:
            yield f"cut to {at} bytes", data[:at]
        elif kind == 2:
            yield f"bytes {at} to {end} cut out", data[:at] + data[end:]
        elif kind == 3:
            yield f"bytes {at} to {end} random", data[:at] + random.bytes(end - at) + data[end:]
        else:
            yield f"{end - at} random bytes", random.bytes(end - at)


def within(seconds: float, function: Callable[[], T], what: str) -> T:
    """The result of ``function``; ConformanceError if it takes longer than ``seconds``."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise ConformanceError("time", f"{what}: still running after {seconds:g} s")
    if errors:
        raise errors[0]
    return results[0]
