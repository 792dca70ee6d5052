"""Whether encoder and decoder compute the same entropy parameters.

A learned entropy coder decodes garbage as soon as the decoder's network rounds one scale to
another entry of the table than the encoder's did. Both hash the tables and all indices of
scales; the encoder's hash is in the file.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

from toolkit.container import BadFile

HASH_BYTES = 4


class Disagreement(BadFile):
    """This machine computes other entropy parameters than the one that wrote the file."""


def refuse(found: bytes, expected: bytes) -> None:
    """Raises Disagreement where the hashes differ."""
    if found != expected:
        raise Disagreement(
            f"entropy parameters computed here ({found.hex()}) aren't the encoder's "
            f"({expected.hex()}): another processor or version of torch, or a damaged file; "
            "decode it where it was made"
        )


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """No gradients, and one thread: sums are added up in the same order every time."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


class Agreement:
    """Hashes a model's tables, and the indices of scales while it codes.

    A decoder gives ``expected`` and the number of indices that there will be, and gets a
    Disagreement as soon as all of them are known: before any symbol is decoded, except by
    autoregressive models, whose last indices depend on the first symbols.
    """

    def __init__(self, model: Any, expected: bytes | None = None, count: int = 0) -> None:
        self.model = model
        self.expected, self.count = expected, count
        self._hash = hashlib.blake2b(digest_size=HASH_BYTES)
        for name in ("entropy_bottleneck", "gaussian_conditional"):
            part = getattr(model, name, None)
            if part is not None:
                for table in (part._quantized_cdf, part._cdf_length, part._offset):
                    self._hash.update(table.int().contiguous().numpy().tobytes())

    @property
    def digest(self) -> bytes:
        return self._hash.digest()

    def check(self) -> None:
        """Raises Disagreement where there is an expectation that isn't met."""
        if self.expected is not None:
            refuse(self.digest, self.expected)

    def _record(self, indices: Any) -> None:
        import torch

        self._hash.update(indices.to(torch.uint8).contiguous().numpy().tobytes())
        self.count -= indices.numel()
        if self.count == 0:
            self.check()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Hash every index that the model computes within."""
        part = getattr(self.model, "gaussian_conditional", None)
        if part is None:
            self.check()
            yield
            return
        compute = part.build_indexes

        def build_indexes(scales: Any) -> Any:
            indices = compute(scales)
            self._record(indices)
            return indices

        part.build_indexes = build_indexes
        try:
            yield
        finally:
            del part.build_indexes
