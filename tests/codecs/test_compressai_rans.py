"""CompressAI's range decoder fed with damage: what is appended keeps it within its memory."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.format.container import BadStream
from toolkit_plugins.compressai.rans import safe_to_read
from toolkit_plugins.compressai.upstream import submodule

COUNT = 400


def decode(string):
    """``COUNT`` symbols under a table whose escape takes half of all, as no real one does."""
    table = [0, 16384, 32768, 65536]
    indices = [0] * COUNT
    return (
        submodule("ans")
        .RansDecoder()
        .decode_with_indexes(string, indices, [table], [len(table)], [-1])
    )


@given(st.binary(min_size=2, max_size=100).map(lambda b: (4 * b)[: 4 * len(b)]))
@settings(max_examples=200, deadline=None)
def test_zeros_appended_are_enough(string):
    """More zeros change nothing: the decoder didn't get past those that there were."""
    padded = safe_to_read(string, COUNT)
    rest = random.Random(0).randbytes(100_000)
    assert decode(padded + bytes(100_000)) == decode(padded + rest)


def test_intact_strings_are_decoded_as_before():
    table = [0, 30000, 60000, 65536]
    symbols = np.random.default_rng(0).integers(-1, 4, COUNT).tolist()
    ans = submodule("ans")
    arguments = ([0] * COUNT, [table], [len(table)], [-1])
    string = ans.RansEncoder().encode_with_indexes(symbols, *arguments)
    padded = safe_to_read(string, COUNT)
    assert ans.RansDecoder().decode_with_indexes(padded, *arguments) == symbols


@pytest.mark.parametrize("length", [0, 3, 4, 7, 9, 101])
def test_lengths_that_no_encoder_writes(length):
    with pytest.raises(BadStream):
        safe_to_read(bytes(length), COUNT)
