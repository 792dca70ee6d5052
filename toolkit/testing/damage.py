"""Damaged files for the conformance kit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from toolkit.format.container import Container, is_container, read_container, write_container
from toolkit.testing.streams import damaged_streams


def damaged_files(data: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Damage to the file; of containers behind valid checksums, too."""
    if not is_container(data):
        yield from damaged_streams(data, count, seed)
        return
    yield from damaged_streams(data, count // 3, seed)
    container = read_container(data)
    for label, bad in damaged_streams(container.parameters, 8, seed):
        yield f"parameters, {label}", write_container(replace(container, parameters=bad))
    each = count // 2 // max(1, len(container.streams))
    for index, stream in enumerate(container.streams):
        for label, bad in damaged_streams(stream.data, each, seed):
            yield (
                f"stream '{stream.name}', {label}",
                write_container(_with_stream(container, index, bad)),
            )
    yield "no streams", write_container(replace(container, streams=()))


def _with_stream(container: Container, index: int, data: bytes) -> Container:
    streams = list(container.streams)
    streams[index] = replace(streams[index], data=data)
    return replace(container, streams=tuple(streams))
