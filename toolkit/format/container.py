"""The ``.qf`` file: a header, then streams, nothing after them. See ``docs/format.md``.

Nothing is allocated or looped over from a declared number before that number is checked, and
a bad file raises a subclass of ``BadFile``, nothing else.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NoReturn

from toolkit.errors import InputError
from toolkit.format.content import Container, Header, Stream, StreamEntry
from toolkit.format.errors import (
    BadFile,
    BadHeader,
    BadStream,
    ChecksumMismatch,
    LimitExceeded,
    NewerVersion,
    NotAContainer,
    OtherModel,
    TrailingData,
    Truncated,
    UnknownPlugin,
)
from toolkit.format.limits import (
    LIMITS,
    Limits,
    check_claim,
    check_limit,
    check_size,
    current_limits,
)
from toolkit.format.varint import Fields, block, varint

# the errors are part of this module for whoever uses it
__all__ = [
    "FINGERPRINT_BYTES",
    "LIMITS",
    "MAGIC",
    "VERSION",
    "BadFile",
    "BadHeader",
    "BadStream",
    "ChecksumMismatch",
    "Container",
    "Header",
    "LimitExceeded",
    "Limits",
    "NewerVersion",
    "NotAContainer",
    "OtherModel",
    "Stream",
    "StreamEntry",
    "TrailingData",
    "Truncated",
    "UnknownPlugin",
    "is_container",
    "parts_in_bits",
    "read_container",
    "read_file",
    "read_header",
    "read_open_file",
    "write_container",
]

MAGIC = b"\x89QFI\r\n\x1a\n"
"""As PNG's: a high bit, CR LF, ^Z and LF show a transfer in text mode."""
VERSION = (1, 1)
"""The latest: files without ancillary streams are written as of version 1.0."""
FINGERPRINT_BYTES = 8

_FIXED = len(MAGIC) + 2
_CRC_BYTES = 4
_MODES = ("L", "RGB", "RGBA")
_HAS_FINGERPRINT = 4
_CODEC_NAME = re.compile(r"[a-z0-9][a-z0-9+._-]{0,39}")
_STREAM_NAME = re.compile(r"[!-~]{1,40}")


def is_container(data: bytes) -> bool:
    """Whether ``data`` means to be a .qf file (it may be damaged still)."""
    return data[1:4] == MAGIC[1:4] and data[0] & 0x7F == MAGIC[0] & 0x7F


def read_file(path: Path, limits: Limits | None = None) -> bytes:
    """The bytes of a file, its size checked first. Raises LimitExceeded, InputError."""
    try:
        with open(path, "rb") as file:
            return read_open_file(file, limits)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def read_open_file(file: BinaryIO, limits: Limits | None = None) -> bytes:
    """The rest of an open file or stream, no more than a file may have. Raises LimitExceeded."""
    limits = limits or current_limits()
    pieces = []
    size = 0
    while piece := file.read(2**20):  # one read of the limit would allocate all of it
        pieces.append(piece)
        size += len(piece)
        check_limit("file bytes", size, limits.file_bytes)
    return b"".join(pieces)


def read_header(data: bytes, limits: Limits | None = None, cut_short: bool = False) -> Header:
    """The header of a file: needs neither the codec nor its plugin.

    Checked in this order: magic, version, limits, exact length (unless it may be ``cut_short``),
    header checksum. The streams' own checksums are left to ``read_container``. Raises subclasses
    of BadFile.
    """
    limits = limits or current_limits()
    check_limit("file bytes", len(data), limits.file_bytes)
    _check_magic(data)
    major, minor = data[len(MAGIC)], data[len(MAGIC) + 1]
    if (major, minor) > VERSION:
        _refuse_version(major, minor)
    if major == 0:
        raise BadHeader(f"byte {len(MAGIC)}: there is no format version 0; get a fresh copy")
    start, end = _header_extent(data, limits)
    expected = int.from_bytes(data[end - _CRC_BYTES : end], "little")
    intact = zlib.crc32(memoryview(data)[: end - _CRC_BYTES]) == expected
    try:
        header = _parse(Fields(data, start, end - _CRC_BYTES), (major, minor), end, limits)
    except BadHeader:
        if intact:
            raise
        _refuse_header_checksum(end)
    if not (cut_short and intact and len(data) < header.file_bytes):
        _check_length(header, len(data), intact)
    if not intact:
        _refuse_header_checksum(end)
    check_claim(header.width, header.height, len(data), limits)
    return header


def read_container(
    data: bytes, limits: Limits | None = None, accept: Callable[[Header], object] | None = None
) -> Container:
    """The content of a file, all checksums verified.

    ``accept`` sees the header before the streams' checksums are computed, and may raise
    (UnknownPlugin, OtherModel). Raises subclasses of BadFile.
    """
    header = read_header(data, limits)
    if accept is not None:
        accept(header)
    streams = []
    for entry in header.streams:
        content = data[entry.offset : entry.offset + entry.length]
        if zlib.crc32(content) != entry.crc:
            raise ChecksumMismatch(
                f"stream '{entry.name}' (bytes {entry.offset} to {entry.offset + entry.length}) "
                f"is damaged: its checksum doesn't match; get a fresh copy"
            )
        streams.append(Stream(entry.name, content))
    return header.with_streams(streams)


def read_beginning(data: bytes, limits: Limits | None = None) -> Container:
    """What is there of a file that was cut short behind its header: streams as far as they go, the
    cut one unverified. A file that is whole is read as ever. Raises subclasses of BadFile."""
    header = read_header(data, limits, cut_short=True)
    if len(data) == header.file_bytes:
        return read_container(data, limits)
    streams = []
    for entry in header.streams:
        content = data[entry.offset : entry.offset + entry.length]
        if len(content) == entry.length and zlib.crc32(content) != entry.crc:
            break
        streams.append(Stream(entry.name, content))
    return header.with_streams(streams)


def write_container(container: Container, limits: Limits | None = None) -> bytes:
    """The file. Raises LimitExceeded for what the reader would refuse as too large, and
    ValueError for fields that no file may have."""
    limits = limits or current_limits()
    _check_fields(container)
    check_size(container.width, container.height, limits)
    check_limit("streams", len(container.streams), limits.streams)
    flags = _MODES.index(container.mode)
    if container.fingerprint is not None:
        flags |= _HAS_FINGERPRINT
    parts = [
        bytes([flags]),
        varint(container.width),
        varint(container.height),
        block(container.codec.encode("ascii")),
        varint(container.stream_version),
        container.fingerprint or b"",
        block(container.parameters),
        varint(len(container.streams)),
    ]
    for stream in container.streams:
        parts += [
            block(stream.name.encode("ascii")),
            varint(len(stream.data)),
            zlib.crc32(stream.data).to_bytes(_CRC_BYTES, "little"),
        ]
    body = b"".join(parts)
    ancillary = any(stream.ancillary for stream in container.streams)
    head = MAGIC + bytes(VERSION if ancillary else (1, 0)) + varint(len(body)) + body
    check_limit("header bytes", len(head) + _CRC_BYTES, limits.header_bytes)
    crc = zlib.crc32(head).to_bytes(_CRC_BYTES, "little")
    data = b"".join([head, crc, *(stream.data for stream in container.streams)])
    check_limit("file bytes", len(data), limits.file_bytes)
    return data


def parts_in_bits(container: Container) -> dict[str, float]:
    """Bits of the file: ``header`` (with table and checksums) and each stream by its name."""
    streams = {stream.name: 8.0 * len(stream.data) for stream in container.streams}
    return {"header": 8.0 * len(write_container(container)) - sum(streams.values()), **streams}


def _parse(fields: Fields, version: tuple[int, int], end: int, limits: Limits) -> Header:
    """The fields of a header that ends, checksum included, at byte ``end``."""
    at = fields.at
    flags = fields.bytes(1)[0]
    if flags & 3 == 3 or flags > 7:
        raise BadHeader(f"byte {at}: flags {flags:#x} aren't defined; get a fresh copy")
    width, height = fields.number(), fields.number()
    if not width or not height:
        raise BadHeader(f"byte {at}: a picture of {width}x{height} pixels; get a fresh copy")
    check_size(width, height, limits)
    codec = fields.text(_CODEC_NAME, "codec")
    stream_version = fields.number()
    fingerprint = fields.bytes(FINGERPRINT_BYTES) if flags & _HAS_FINGERPRINT else None
    parameters = fields.bytes(fields.number())
    streams = _parse_table(fields, end, limits)
    if fields.at != fields.end:
        raise BadHeader(
            f"byte {fields.at}: the header goes on after its last field; get a fresh copy"
        )
    return Header(
        version=version,
        width=width,
        height=height,
        mode=_MODES[flags & 3],
        codec=codec,
        stream_version=stream_version,
        fingerprint=fingerprint,
        parameters=parameters,
        streams=streams,
        size=end,
    )


def _parse_table(fields: Fields, offset: int, limits: Limits) -> tuple[StreamEntry, ...]:
    """The stream table; ``offset`` is where the first stream starts."""
    count = fields.number()
    check_limit("streams", count, limits.streams)
    entries: dict[str, StreamEntry] = {}
    for _ in range(count):
        name = fields.text(_STREAM_NAME, "stream")
        if name in entries:
            raise BadHeader(f"byte {fields.at}: a second stream '{name}'; get a fresh copy")
        length = fields.number()
        crc = int.from_bytes(fields.bytes(_CRC_BYTES), "little")
        entries[name] = StreamEntry(name, offset, length, crc)
        offset += length
        check_limit("file bytes", offset, limits.file_bytes)
    return tuple(entries.values())


def _check_magic(data: bytes) -> None:
    size = min(len(data), len(MAGIC))
    if data[:size] != MAGIC[:size]:
        if is_container(data):
            raise NotAContainer(
                "bytes 0 to 8: a .qf file damaged by a transfer in text mode; copy it as binary"
            )
        raise NotAContainer("bytes 0 to 8: not a .qf file")
    if len(data) <= _FIXED:
        raise Truncated(f"ends at byte {len(data)}, within its header: get a fresh copy")


def _header_extent(data: bytes, limits: Limits) -> tuple[int, int]:
    """Where the header's fields start, and where it ends, its checksum included."""
    fields = Fields(data, _FIXED, len(data))
    try:
        end = fields.number() + fields.at + _CRC_BYTES
    except BadHeader:
        if fields.at < len(data):
            raise
        end = fields.at + 1
    check_limit("header bytes", end, limits.header_bytes)
    if len(data) < end:
        raise Truncated(f"ends at byte {len(data)}, within its header: get a fresh copy")
    return fields.at, end


def _check_length(header: Header, size: int, intact: bool) -> None:
    declared = header.file_bytes
    doubt = "" if intact else " (or its header is damaged)"
    if size < declared:
        raise Truncated(f"ends at byte {size} instead of {declared}{doubt}: get a fresh copy")
    if size > declared:
        raise TrailingData(
            f"{size - declared} bytes after its end at byte {declared}{doubt}: cut them off, "
            "or get a fresh copy"
        )


def _check_fields(container: Container) -> None:
    """Raises ValueError: a codec that writes such fields is at fault, no user."""
    names = [stream.name for stream in container.streams]
    fingerprint = container.fingerprint
    checks = {
        "width or height": container.width > 0 and container.height > 0,
        "mode": container.mode in _MODES,
        "codec": _CODEC_NAME.fullmatch(container.codec) is not None,
        "stream version": 0 <= container.stream_version < 2**32,
        "fingerprint": fingerprint is None or len(fingerprint) == FINGERPRINT_BYTES,
        "stream name": all(_STREAM_NAME.fullmatch(name) for name in names),
        "stream names (one twice)": len(set(names)) == len(names),
    }
    wrong = [name for name, good in checks.items() if not good]
    if wrong:
        raise ValueError(f"container: bad {', '.join(wrong)}")


def _refuse_version(major: int, minor: int) -> NoReturn:
    raise NewerVersion(
        f"byte {len(MAGIC)}: format version {major}.{minor}, this program reads up to "
        f"{VERSION[0]}.{VERSION[1]}: update the toolkit"
    )


def _refuse_header_checksum(end: int) -> NoReturn:
    raise ChecksumMismatch(
        f"the header (bytes 0 to {end}) is damaged: its checksum doesn't match; get a fresh copy"
    )
