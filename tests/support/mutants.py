"""Damage to bytes: bits, bytes, pieces cut out, doubled, swapped, overwritten, or the end cut."""

from __future__ import annotations

import random


def mutated(data: bytes, rng: random.Random) -> bytes:
    """``data`` with one to four pieces of damage."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        kind, at = rng.randrange(7), rng.randrange(len(out) + 1)
        length = rng.randrange(1, 9)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(out):
            out[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif kind == 2:
            del out[at : at + length]
        elif kind == 3:
            out[at:at] = rng.randbytes(length)
        elif kind == 4:
            out = out[:at]
        elif kind == 5:
            out[at:at] = out[at : at + length]
        else:
            out[at : at + length] = rng.randbytes(len(out[at : at + length]))
    return bytes(out)
