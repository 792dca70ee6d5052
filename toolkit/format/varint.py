"""Numbers and blocks of bytes, as in the headers of ``.qf`` files."""

from __future__ import annotations

import re

from toolkit.format.errors import BadHeader


class Fields:
    """Reads fields from ``data[at:end]``, never past ``end``; ``at`` is where the next one starts.

    Raises BadHeader for a field that is none or passes the end.
    """

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data, self.at, self.end = data, at, end

    def number(self) -> int:
        """An unsigned LEB128 integer below 2^63, in its shortest form."""
        value = shift = 0
        while True:
            byte = self.bytes(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 56:
                raise BadHeader(
                    f"byte {self.at}: a number of more than nine bytes; get a fresh copy"
                )
        if byte == 0 and shift:
            raise BadHeader(f"byte {self.at}: a number longer than it need be; get a fresh copy")
        return value

    def bytes(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        if count > self.end - self.at:
            raise BadHeader(
                f"byte {self.at}: a field of {count} bytes passes the header's end; "
                "get a fresh copy"
            )
        self.at += count
        return self.data[self.at - count : self.at]

    def text(self, pattern: re.Pattern[str], what: str) -> str:
        """A block that is an ASCII name matching ``pattern``; ``what`` is for the message."""
        at = self.at
        text = self.bytes(self.number()).decode("latin-1")
        if not pattern.fullmatch(text):
            raise BadHeader(f"byte {at}: {text[:40]!r} is no name of a {what}; get a fresh copy")
        return text


def varint(value: int) -> bytes:
    """An unsigned LEB128 integer in its shortest form; ``value`` from 0 to 2^63 - 1."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def block(data: bytes) -> bytes:
    """The length of ``data`` as a varint, then ``data``."""
    return varint(len(data)) + data
