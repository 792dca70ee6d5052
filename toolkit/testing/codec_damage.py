"""Damaged files: each is a picture or a named error, in bounded time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from toolkit.format.container import Container, is_container, read_container
from toolkit.format.container import write_container as written
from toolkit.testing.codec_subject import CodecReport, CodecSubject, check_pixels
from toolkit.testing.streams import damaged_streams, is_refused
from toolkit.testing.subject import ConformanceError

DAMAGE_SECONDS = 30.0
"""Longest that decoding a damaged file may take."""


def check_damage(subject: CodecSubject, report: CodecReport, count: int) -> None:
    """A damaged file is a picture or a named error, in bounded time."""
    pixels, encoded = subject.coded()
    for label, bad in _damaged_files(encoded.data, count, subject.seed):
        report.damaged += 1

        def decode(bad: bytes = bad) -> Any:
            return subject.make().decode(bad).pixels

        def check(shown: Any, label: str = label, bad: bytes = bad) -> None:
            if not bad:
                raise ConformanceError("damaged files", "an empty file is decoded to a picture")
            check_pixels(shown, "damaged files", label)
            if is_container(bad) and shown.shape != pixels.shape:
                raise ConformanceError(
                    "damaged files", f"{label}: decodes to shape {shown.shape}, not {pixels.shape}"
                )

        report.refused += is_refused(decode, check, "file", label, DAMAGE_SECONDS)
    report.checks.append("damaged files")


def _damaged_files(data: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Damage to the file; of containers behind valid checksums, too."""
    if not is_container(data):
        yield from damaged_streams(data, count, seed)
        return
    yield from damaged_streams(data, count // 3, seed)
    container = read_container(data)
    for label, bad in damaged_streams(container.parameters, 8, seed):
        yield f"parameters, {label}", written(replace(container, parameters=bad))
    each = count // 2 // max(1, len(container.streams))
    for index, stream in enumerate(container.streams):
        for label, bad in damaged_streams(stream.data, each, seed):
            yield f"stream '{stream.name}', {label}", written(_with_stream(container, index, bad))
    yield "no streams", written(replace(container, streams=()))


def _with_stream(container: Container, index: int, data: bytes) -> Container:
    streams = list(container.streams)
    streams[index] = replace(streams[index], data=data)
    return replace(container, streams=tuple(streams))
