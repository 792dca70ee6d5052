"""Entropy coding of whole numbers whose distribution isn't known beforehand.

Numbers fall into buckets, one for each below 16, two for each power of two from there on;
buckets go through a range coder (constriction; Bamler 2022), what is left of a number follows
as raw bits. The buckets' frequencies are sent before them, as powers of two, four bits each.
Numbers of different kinds (``contexts``) have tables of their own.
"""

from __future__ import annotations

import constriction
import numpy as np
from numpy.typing import NDArray

from toolkit.format.errors import BadStream
from toolkit.sampling.coding.bits import BitReader, BitWriter, Ints, bit_length

_SINGLE = 16
_LONGEST = 40
_BUCKETS = _SINGLE + 2 * (_LONGEST - 4)
_LEVELS = 15
_queue = constriction.stream.queue
_Categorical = constriction.stream.model.Categorical


def _buckets(values: Ints) -> tuple[Ints, Ints, Ints]:
    """Bucket, bits within the bucket and their value, of each number below 2^40."""
    length = np.maximum(bit_length(values), 4)
    extra = np.maximum(length - 2, 0)
    coarse = values >> extra  # 2 or 3 for numbers from 16 on
    large = values >= _SINGLE
    bucket = np.where(large, _SINGLE + 2 * (length - 5) + coarse - 2, values)
    extra = np.where(large, extra, 0)
    return bucket, extra, values & ((np.int64(1) << extra) - 1)


def _extra_bits(bucket: Ints) -> Ints:
    return np.where(bucket < _SINGLE, 0, (bucket - _SINGLE) // 2 + 3)


def _number(bucket: Ints, rest: Ints) -> Ints:
    extra = _extra_bits(bucket)
    first = np.where(bucket < _SINGLE, bucket, (2 + (bucket - _SINGLE) % 2) << extra)
    return first + rest


def _levels(counts: Ints) -> Ints:
    """Of each bucket: 15 less the octaves below the most frequent one, 0 where there is none."""
    octaves = np.rint(np.log2(counts.max() / np.maximum(counts, 1))).astype(np.int64)
    return np.where(counts > 0, np.maximum(_LEVELS - octaves, 1), 0)


def _model(levels: Ints) -> tuple[Ints, object]:
    """The buckets that occur, and a distribution over them (one that never occurs is added to
    a lone one, as the coder wants two)."""
    used = np.flatnonzero(levels)
    weights = np.append(2.0 ** levels[used], [] if len(used) > 1 else 2.0**-8)
    return used, _Categorical(weights.astype(np.float64), perfect=False)


def write_integers(writer: BitWriter, values: Ints, contexts: Ints | None = None) -> None:
    """Numbers from 0 to 2^40 - 1; ``contexts`` (small numbers, known to the reader) say which
    of them share a table."""
    bucket, extra, rest = _buckets(values)
    contexts = np.zeros(len(values), np.int64) if contexts is None else contexts
    encoder = _queue.RangeEncoder()
    for context in np.unique(contexts):
        part = bucket[contexts == context]
        levels = _levels(np.bincount(part))
        writer.write(len(levels), 7)
        writer.write(levels, 4)
        used, model = _model(levels)
        encoder.encode(np.searchsorted(used, part).astype(np.int32), model)
    writer.words(encoder.get_compressed())
    writer.write(rest, extra)


def read_integers(reader: BitReader, count: int, contexts: Ints | None = None) -> Ints:
    """``count`` numbers. Raises BadStream."""
    contexts = np.zeros(count, np.int64) if contexts is None else contexts
    kinds, tables = np.unique(contexts), []
    # the tables come first, the words after all of them
    for _ in kinds:
        size = reader.number(7)
        levels = reader.read(4, size)
        if not 0 < size <= _BUCKETS or not levels.any():
            raise BadStream("a table of frequencies that no encoder writes")
        tables.append(_model(levels))
    decoder = _queue.RangeDecoder(reader.words())
    bucket = np.zeros(count, np.int64)
    for kind, (used, model) in zip(kinds, tables, strict=True):
        which = np.flatnonzero(contexts == kind)
        symbols = _decode(decoder, model, len(which))
        if symbols.max(initial=0) >= len(used):
            raise BadStream("a number that its table doesn't have")
        bucket[which] = used[symbols]
    return _number(bucket, reader.read(_extra_bits(bucket)))


def _decode(decoder: object, model: object, count: int) -> NDArray[np.int32]:
    try:
        return np.asarray(decoder.decode(model, count))  # type: ignore[attr-defined]
    except AssertionError:
        raise BadStream("the range coder's words can't be decoded") from None


def write_indices(writer: BitWriter, indices: Ints, widths: Ints) -> None:
    """Indices below 2^widths that aren't uniform: a table of frequencies for all that may have
    up to four bits, one for those with up to eight, and so on."""
    write_integers(writer, indices, (widths + 3) // 4)


def read_indices(reader: BitReader, widths: Ints) -> Ints:
    """What ``write_indices`` wrote. Raises BadStream, also for an index of 2^width or more."""
    indices = read_integers(reader, len(widths), (widths + 3) // 4)
    if np.any(indices >> widths):
        raise BadStream("an index that its block doesn't have")
    return indices
