"""What a ``.qf`` file holds, read or to be written."""

from __future__ import annotations

from dataclasses import dataclass, replace

from toolkit.format.errors import BadStream

ANCILLARY = "+"
"""What names of ancillary streams begin with."""


@dataclass(frozen=True)
class Stream:
    """A named run of bytes."""

    name: str
    data: bytes

    @property
    def ancillary(self) -> bool:
        """Whether the picture can be decoded without it: a decoder that doesn't know it skips
        it."""
        return self.name.startswith(ANCILLARY)


@dataclass(frozen=True)
class StreamEntry:
    """A row of the stream table: what the header says of a stream, and where it lies."""

    name: str
    offset: int
    length: int
    crc: int


@dataclass(frozen=True)
class Description:
    """What a file says of itself before its streams."""

    width: int
    height: int
    mode: str
    """``L``, ``RGB`` or ``RGBA``."""
    codec: str
    stream_version: int
    fingerprint: bytes | None
    """8 bytes over weights and architecture; None for codecs without weights."""
    parameters: bytes
    """What the codec's decoder needs; opaque here."""


@dataclass(frozen=True, kw_only=True)
class Header(Description):
    """All that stands before the streams."""

    version: tuple[int, int]
    streams: tuple[StreamEntry, ...]
    size: int
    """Bytes before the first stream: header, stream table and checksums."""

    @property
    def file_bytes(self) -> int:
        """How long the whole file is."""
        return self.size + sum(entry.length for entry in self.streams)

    def with_streams(self, streams: list[Stream]) -> Container:
        """The content of the file, given its streams."""
        said = {name: getattr(self, name) for name in Description.__dataclass_fields__}
        return Container(streams=tuple(streams), **said)


@dataclass(frozen=True)
class Container(Description):
    """The content of a ``.qf`` file."""

    streams: tuple[Stream, ...]

    @property
    def essential(self) -> Container:
        """The same without its ancillary streams."""
        return replace(self, streams=tuple(s for s in self.streams if not s.ancillary))

    def stream(self, name: str) -> bytes:
        """The bytes of a stream. Raises BadStream where there is none of that name."""
        for stream in self.streams:
            if stream.name == name:
                return stream.data
        raise BadStream(f"the file has no stream '{name}', which codec '{self.codec}' needs")
