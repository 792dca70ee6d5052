"""The entropy-parameter check around CompressAI's own coder."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from toolkit.format.container import BadStream
from toolkit_plugins.compressai.upstream import submodule
from toolkit_plugins.hyperprior.parameter_check import HASH_BYTES, refuse_mismatch


class ParameterCheck:
    """Hashes a model's tables and the indices of scales, and the symbols, while it codes.

    A decoder gives ``expected`` and the number of indices that there will be. It gets a
    Mismatch as soon as all of them are known: before any symbol is decoded, except by
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
        """Raises Mismatch or BadStream where there is an expectation that isn't met."""
        if self.expected is None:
            return
        refuse_mismatch(self._indices.digest(), self.expected[:HASH_BYTES])
        if self._symbols.digest() != self.expected[HASH_BYTES:]:
            raise BadStream("the symbols decoded aren't those that were coded: damaged")

    def _record_indices(self, indices: Any) -> None:
        import torch

        self._indices.update(indices.to(torch.uint8).contiguous().numpy().tobytes())
        self.count -= indices.numel()
        if self.count == 0 and self.expected is not None:
            refuse_mismatch(self._indices.digest(), self.expected[:HASH_BYTES])

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
