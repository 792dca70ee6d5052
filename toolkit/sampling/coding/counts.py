"""Index counts: how often a sampler's indices were sent, estimated once and kept beside weights.

A file ``NAME.counts.json`` has a table (contexts, symbols) of whole numbers. Thesis, section
3.5.1: indices go through a static arithmetic coder whose probabilities are these empirical ones,
smoothed for what was never seen,

    P~(i) = (1 - alpha) P(i) + alpha / n,    n the number of symbols.

Corrected against the text: it leaves nothing of alpha to indices within the index set that the
training set didn't have, which then couldn't be sent. Probabilities are made in whole numbers, so
that all machines have the same. The coder (constriction's) finds a symbol by bisection of the
table of cumulative probabilities, in the logarithm of the number of symbols.

Names are looked for in the folder ``$TOOLKIT_COUNTS`` and where the sampler's plugins keep their
weights. Streams carry the fingerprint of the counts that they need.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import constriction
import msgspec
import numpy as np

from toolkit.errors import InputError, MissingError
from toolkit.format.errors import BadStream, OtherModel
from toolkit.sampling.coding.bits import BitReader, BitWriter, Ints

SUFFIX = ".counts.json"
FOLDER_VARIABLE = "TOOLKIT_COUNTS"
NAME = r"^[a-z0-9][a-z0-9._-]*$"
"""Of counts; a name, never a path: files name the counts that they need."""
FINGERPRINT_BITS = 32
_TOTAL = 1 << 24
_ALPHA_UNIT = 10**6

_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**40)]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """What a file of counts holds."""

    symbols: Annotated[int, msgspec.Meta(ge=2, le=2**16)]
    alpha: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    counts: Annotated[list[list[_Count]], msgspec.Meta(min_length=1, max_length=256)]
    """A row a context; zeros at its end are left out."""
    source: str = ""


@dataclass(frozen=True)
class Counts:
    """Counts of indices."""

    table: Ints
    """(contexts, symbols)"""
    alpha: float = 0.01
    """Share of the probability that goes to all symbols alike."""
    source: str = ""
    """What they were made from, for people."""

    @property
    def fingerprint(self) -> int:
        """32 bits of a hash over the table and alpha."""
        text = json.dumps([list(self.table.shape), self.alpha, self.table.tolist()])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[: FINGERPRINT_BITS // 8])

    def frequencies(self, context: int) -> Ints:
        """Probabilities (symbols,) in units of about 2^-24, none of them 0.

        A context that was never seen has those of the nearest one that was.
        """
        seen = np.flatnonzero(self.table.sum(axis=1))
        row = [1] * self.table.shape[1]
        if len(seen):
            row = self.table[seen[np.abs(seen - context).argmin()]].tolist()
        total, n = sum(row), len(row)
        spread = round(self.alpha * _ALPHA_UNIT)
        weights = [(_ALPHA_UNIT - spread) * count * n + spread * total for count in row]
        scale = _ALPHA_UNIT * total * n
        return np.array([1 + weight * (_TOTAL - n) // scale for weight in weights], np.int64)

    def write(self, writer: BitWriter, symbols: Ints, contexts: Ints) -> None:
        """Code ``symbols``, each by the table of its context."""
        encoder = constriction.stream.queue.RangeEncoder()
        for context in np.unique(contexts):
            part = symbols[contexts == context].astype(np.int32)
            encoder.encode(part, self._model(int(context)))
        writer.words(encoder.get_compressed())

    def read(self, reader: BitReader, contexts: Ints) -> Ints:
        """What ``write`` wrote. Raises BadStream."""
        decoder = constriction.stream.queue.RangeDecoder(reader.words())
        symbols = np.zeros(len(contexts), np.int64)
        for context in np.unique(contexts):
            which = np.flatnonzero(contexts == context)
            try:
                symbols[which] = decoder.decode(self._model(int(context)), len(which))
            except AssertionError:
                raise BadStream("the range coder's words can't be decoded") from None
        return symbols

    def _model(self, context: int) -> Any:
        weights = self.frequencies(context) / _TOTAL
        return constriction.stream.model.Categorical(weights, perfect=False, lazy=False)

    def to_json(self) -> bytes:
        """The contents of a file, the same for the same counts."""
        rows = [np.trim_zeros(row, "b").tolist() for row in self.table]
        head = {"source": self.source, "symbols": self.table.shape[1], "alpha": self.alpha}
        lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
        return f'{json.dumps(head)[:-1]}, "counts": [\n{lines}\n]}}\n'.encode()


@lru_cache(maxsize=16)
def read_counts(path: Path) -> Counts:
    """The counts of a file. Raises InputError for a file that holds none."""
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except (OSError, msgspec.MsgspecError) as error:
        raise InputError(f"{path}: not a file of index counts ({error})") from None
    table = np.zeros((len(file.counts), file.symbols), np.int64)
    for row, counts in zip(table, file.counts, strict=True):
        if len(counts) > file.symbols:
            raise InputError(f"{path}: not a file of index counts (a row is too long)")
        row[: len(counts)] = counts
    return Counts(table, file.alpha, file.source)


def find_counts(name: str, folders: Iterable[Path]) -> Path:
    """The file of ``name`` in ``$TOOLKIT_COUNTS`` or one of ``folders``.

    Raises MissingError that lists what is there.
    """
    own = os.environ.get(FOLDER_VARIABLE)
    places = [*([Path(own)] if own else []), *folders]
    for folder in places:
        if (folder / f"{name}{SUFFIX}").is_file():
            return (folder / f"{name}{SUFFIX}").resolve()
    there = sorted({p.name.removesuffix(SUFFIX) for f in places for p in f.glob(f"*{SUFFIX}")})
    raise MissingError(
        f"index counts '{name}': no {name}{SUFFIX} in the folder {FOLDER_VARIABLE} or among those "
        f"installed ({', '.join(there) or 'none'})"
    )


def counts_of_stream(name: str, found: int, folders: Iterable[Path]) -> Counts:
    """The counts ``name``, whose fingerprint the stream says is ``found``.

    Raises OtherModel where there are none of this name, or others.
    """
    try:
        counts = read_counts(find_counts(name, folders))
    except (MissingError, InputError) as error:
        raise OtherModel(f"the file needs {error}") from None
    if counts.fingerprint != found:
        raise OtherModel(
            f"the file was made with index counts '{name}' {found:08x}, those at hand are "
            f"{counts.fingerprint:08x}: put the right {name}{SUFFIX} into a folder and name it in "
            f"{FOLDER_VARIABLE}"
        )
    return counts
