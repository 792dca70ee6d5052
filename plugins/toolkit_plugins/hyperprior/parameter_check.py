"""Whether encoder and decoder compute the same entropy parameters.

A learned entropy coder decodes garbage as soon as the decoder's network rounds one scale to
another entry of the table than the encoder's did. Both hash the tables and all indices of
scales, and apart from these the symbols; the encoder's hashes are in the file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from toolkit.format.container import BadFile

HASH_BYTES = 4


class Mismatch(BadFile):
    """This machine computes other entropy parameters than the one that wrote the file."""


def refuse_mismatch(found: bytes, expected: bytes) -> None:
    """Raises Mismatch where the hashes differ."""
    if found != expected:
        raise Mismatch(
            f"entropy parameters computed here ({found.hex()}) aren't the encoder's "
            f"({expected.hex()}): another processor or version of torch, or a damaged file; "
            "decode it where it was made"
        )


@contextlib.contextmanager
def fixed_order() -> Iterator[None]:
    """No gradients, and one thread: sums are added up in the same order every time."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)
