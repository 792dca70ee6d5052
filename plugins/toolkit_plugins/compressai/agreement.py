"""Whether encoder and decoder compute the same entropy parameters.

A learned entropy coder decodes garbage as soon as the decoder's network rounds one scale to
another entry of the table than the encoder's did. Both hash the tables and all indices of
scales, and apart from these the symbols; the encoder's hashes are in the file.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from toolkit.format.container import BadFile, BadStream
from toolkit_plugins.compressai.upstream import submodule

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
    """Hashes a model's tables and the indices of scales, and the symbols, while it codes.

    A decoder gives ``expected`` and the number of indices that there will be. It gets a
    Disagreement as soon as all of them are known: before any symbol is decoded, except by
    autoregressive models, whose last indices depend on the first symbols. And it gets BadStream
    in the end for symbols that aren't those that were coded.
    """

    def __init__(self, model: Any, expected: bytes | None = None, count: int = 0) -> None:
        self.model = model
        self.expected, self.count = expected, count
        self._indices = hashlib.blake2b(digest_size=HASH_BYTES)
        self._symbols = hashlib.blake2b(digest_size=HASH_BYTES)
        for part in self._parts():
            for table in (part._quantized_cdf, part._cdf_length, part._offset):
                self._indices.update(table.int().contiguous().numpy().tobytes())

    def _parts(self) -> list[Any]:
        names = ("entropy_bottleneck", "gaussian_conditional")
        return [getattr(self.model, name) for name in names if hasattr(self.model, name)]

    @property
    def digest(self) -> bytes:
        """Hash of tables and indices, then hash of symbols."""
        return self._indices.digest() + self._symbols.digest()

    def check(self) -> None:
        """Raises Disagreement or BadStream where there is an expectation that isn't met."""
        if self.expected is None:
            return
        refuse(self._indices.digest(), self.expected[:HASH_BYTES])
        if self._symbols.digest() != self.expected[HASH_BYTES:]:
            raise BadStream("the symbols decoded aren't those that were coded: damaged")

    def _record_indices(self, indices: Any) -> None:
        import torch

        self._indices.update(indices.to(torch.uint8).contiguous().numpy().tobytes())
        self.count -= indices.numel()
        if self.count == 0 and self.expected is not None:
            refuse(self._indices.digest(), self.expected[:HASH_BYTES])

    def _recorded(self, coder: Any) -> _RecordedCoder:
        def record(symbols: list[int]) -> None:
            self._symbols.update(np.array(symbols, "<i4").tobytes())

        return _RecordedCoder(coder, record, encoding=self.expected is None)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Hash all that the model codes within, and check it in the end."""
        with contextlib.ExitStack() as stack:
            for part in self._parts():
                coder = self._recorded(part.entropy_coder)
                stack.enter_context(_replaced(part, "entropy_coder", coder))
            if len(self._parts()) == 2:
                part = self._parts()[1]
                compute = part.build_indexes

                def build_indexes(scales: Any) -> Any:
                    indices = compute(scales)
                    self._record_indices(indices)
                    return indices

                stack.enter_context(_replaced(part, "build_indexes", build_indexes))
            for module in ("models.google", "models.vbr"):  # autoregressive ones make their own
                for name in ("BufferedRansEncoder", "RansDecoder"):
                    original = getattr(submodule(module), name)

                    def make(original: Any = original) -> _RecordedCoder:
                        return self._recorded(original())

                    stack.enter_context(_replaced(submodule(module), name, make))
            yield
        self.check()


class _RecordedCoder:
    """A range coder whose symbols are recorded: those that go in, or those that come out."""

    def __init__(self, coder: Any, record: Callable[[list[int]], None], encoding: bool) -> None:
        self._coder = coder
        self._record = record
        self._encoding = encoding

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coder, name)

    def encode_with_indexes(self, symbols: list[int], *tables: Any) -> Any:
        if self._encoding:
            self._record(symbols)
        return self._coder.encode_with_indexes(symbols, *tables)

    def decode_with_indexes(self, *arguments: Any) -> Any:
        return self._decoded(self._coder.decode_with_indexes(*arguments))

    def decode_stream(self, *arguments: Any) -> Any:
        return self._decoded(self._coder.decode_stream(*arguments))

    def _decoded(self, symbols: list[int]) -> list[int]:
        if not self._encoding:
            self._record(symbols)
        return symbols


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute that is another one for a while."""
    own = name in vars(owner)
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)
