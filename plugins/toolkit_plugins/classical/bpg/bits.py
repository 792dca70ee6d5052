"""Bit strings, as in headers of HEVC (H.265, 9.2) and BPG (specification, section 2)."""

from __future__ import annotations


class BitReader:
    """Reads bits, the highest of each byte first. Raises ValueError at the end."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def u(self, count: int) -> int:
        """An unsigned integer of ``count`` bits."""
        if count > self._left:
            raise ValueError("a header ends too early")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def flag(self) -> bool:
        return self.u(1) == 1

    def ue(self) -> int:
        """An unsigned Exp-Golomb code, below 2^32 - 1."""
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > 31:
                raise ValueError("a header holds too large a number")
        return (1 << zeros) - 1 + self.u(zeros)


class BitWriter:
    """Writes bits, the highest of each byte first."""

    def __init__(self) -> None:
        self._value = self._count = 0

    def u(self, count: int, value: int) -> None:
        self._value = self._value << count | value
        self._count += count

    def flag(self, value: bool) -> None:
        self.u(1, int(value))

    def ue(self, value: int) -> None:
        self.u(2 * (value + 1).bit_length() - 1, value + 1)

    def bytes(self) -> bytes:
        """What was written, filled up with zero bits."""
        fill = -self._count % 8
        return (self._value << fill).to_bytes((self._count + fill) // 8, "big")


def read_ue7(data: bytes, at: int) -> tuple[int, int]:
    """BPG's ue7(32) at ``data[at]``: seven bits a byte, highest first. Returns it and the place
    after it; raises ValueError."""
    value = 0
    for place in range(at, at + 5):
        if place >= len(data):
            raise ValueError("the header ends too early")
        value = value << 7 | data[place] & 0x7F
        if data[place] == 0x80 and place == at:
            break
        if data[place] < 0x80:
            return value, place + 1
    raise ValueError(f"byte {at}: not a number")


def ue7(value: int) -> bytes:
    """BPG's ue7(32)."""
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(value & 0x7F | 0x80)
    return bytes(reversed(out))
