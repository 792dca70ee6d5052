"""Alpha planes: lossless, small where flat, and safe to decode."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from toolkit.codec.alpha import decode_alpha, encode_alpha
from toolkit.format.container import BadStream

planes = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40))


@given(planes)
def test_lossless(plane):
    data = encode_alpha(plane)
    assert np.array_equal(decode_alpha(data, *plane.shape), plane)


@given(planes, st.integers(-3, 3), st.integers(-3, 3))
def test_another_size_is_refused(plane, dy, dx):
    height, width = plane.shape[0] + dy, plane.shape[1] + dx
    if height < 1 or width < 1 or height * width == plane.size:
        return
    with pytest.raises(BadStream):
        decode_alpha(encode_alpha(plane), height, width)


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_give_a_plane_or_bad_stream(data):
    try:
        plane = decode_alpha(data, 5, 7)
    except BadStream:
        return
    assert plane.shape == (5, 7)


def test_every_cut_is_refused():
    plane = np.add.outer(np.arange(30), 3 * np.arange(20)).astype(np.uint8)
    data = encode_alpha(plane)
    for length in range(len(data)):
        with pytest.raises(BadStream):
            decode_alpha(data[:length], 30, 20)


def test_bytes_after_the_plane_are_refused():
    plane = np.full((8, 8), 200, np.uint8)
    with pytest.raises(BadStream):
        decode_alpha(encode_alpha(plane) + b"\0", 8, 8)


def test_inflates_no_more_than_the_plane():
    bomb = encode_alpha(np.zeros((4096, 4096), np.uint8))
    with pytest.raises(BadStream):
        decode_alpha(bomb, 4, 4)


@pytest.mark.parametrize("ramp", ["flat", "rows", "columns"])
def test_masks_cost_little(ramp):
    y, x = np.mgrid[:512, :768]
    plane = {"flat": 0 * x + 255, "rows": y, "columns": x}[ramp].astype(np.uint8)
    assert len(encode_alpha(plane)) < 0.01 * plane.size
