"""Any Gaussians as bytes: shapes, kinds of arrays, figures, damage."""

from __future__ import annotations

import subprocess
import sys
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import UnknownName, UsageError
from toolkit.format.errors import (
    BadFile,
    BadHeader,
    ChecksumMismatch,
    LimitExceeded,
    NewerVersion,
    NotAContainer,
    TrailingData,
    Truncated,
    UnknownPlugin,
)
from toolkit.format.varint import block, varint
from toolkit.sampling import decode_gaussians, encode_gaussians
from toolkit.sampling.array_layout import LONGEST_SIDE, ArrayLayout, choose_layout
from toolkit.sampling.contract import Array
from toolkit.sampling.figure_of_merit import figure_of_merit
from toolkit.sampling.gaussians import MAGIC
from toolkit.sampling.randomness import SharedRandom
from toolkit_evaluation.data.synthetic import synthetic_level
from toolkit_plugins.samplers.trellis.sampler import Trellis, TrellisOptions

FAST = {"nu": 8}
SHAPES = [(), (1,), (7,), (100_003,), (3, 5), (40, 60), (2, 3, 4), (4, 3, 5, 2), (2, 2, 2, 2, 3)]


def gaussians(shape: tuple[int, ...], seed: int = 0, bits: float = 1.0) -> tuple[Array, Array]:
    """d and r of a calibrated prior: about ``bits`` a value."""
    random = np.random.default_rng(seed)
    r = np.exp2(-random.gamma(2, bits / 2, shape)).astype(np.float32)
    d = (random.standard_normal(shape) * np.sqrt(1 - r * r)).astype(np.float32)
    return np.asarray(d), np.asarray(r)


def j_percent(d: Array, r: Array, **options: Any) -> float:
    data = encode_gaussians(d, r, 0, 1, **options)
    return figure_of_merit(d, r, decode_gaussians(data, 0, 1), 8 * len(data)).j_percent


def of_the_bench(d: Array, r: Array) -> float:
    """J of the trellis itself on a level (C, H, W), as ``toolkit bench samplers`` measures it."""
    coded = Trellis(TrellisOptions()).encode(d, r, SharedRandom(0, 0))
    return figure_of_merit(d, r, coded.values, 8 * len(coded.data)).j_percent


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_sample_near_the_posterior_comes_back(shape: tuple[int, ...]) -> None:
    d, r = gaussians(shape, bits=2.0)
    prior_mean, prior_scale = np.float32(3), np.full(shape, 0.5, np.float32)
    mean, scale = prior_mean + prior_scale * d, prior_scale * r
    z = decode_gaussians(
        encode_gaussians(mean, scale, prior_mean, prior_scale, **FAST), prior_mean, prior_scale
    )
    assert z.shape == shape
    assert z.dtype == np.float32
    assert np.sqrt(np.mean(((z - mean) / scale) ** 2)) < 2.0


@pytest.mark.parametrize("sampler", ["trellis", "importance", "greedy", "ordered", "astar"])
def test_every_kind_of_sampler_codes_a_vector(sampler: str) -> None:
    d, r = gaussians((500,), bits=0.5)
    z = decode_gaussians(encode_gaussians(d, r, 0, 1, sampler=sampler), 0, 1)
    assert np.corrcoef(z, d)[0, 1] > 0.4


def test_what_comes_back_is_of_the_priors_kind() -> None:
    d, r = gaussians((20, 30))
    data = encode_gaussians(torch.from_numpy(d), torch.from_numpy(r), 0, 1, **FAST)
    assert data == encode_gaussians(d, r, np.zeros(30), np.ones((20, 1)), **FAST)
    zero, one = torch.zeros(20, 30), torch.ones(())
    plain, single = decode_gaussians(data, 0, 1), decode_gaussians(data, zero, one)
    assert isinstance(plain, np.ndarray)
    assert isinstance(single, torch.Tensor)
    assert single.dtype == torch.float32
    np.testing.assert_array_equal(plain, single.numpy())
    assert decode_gaussians(data, zero.double(), 1).dtype == torch.float64
    assert decode_gaussians(data, zero.bfloat16(), 1).dtype == torch.float32
    assert decode_gaussians(data, np.zeros(30), 1).dtype == np.float64
    grown = torch.zeros(20, 30, requires_grad=True)
    assert not decode_gaussians(data, grown, 1).requires_grad
    halves = encode_gaussians(torch.from_numpy(d).bfloat16(), torch.from_numpy(r).half(), 0, 1)
    assert decode_gaussians(halves, 0, 1).shape == (20, 30)


def test_priors_that_differ_a_little_move_the_values_as_little() -> None:
    d, r = gaussians((64, 64))
    data = encode_gaussians(5 + d, r, np.float32(5), 1, **FAST)
    here = decode_gaussians(data, np.float32(5), np.float32(1))
    there = decode_gaussians(data, np.float32(5.000001), np.float32(1.0000001))
    np.testing.assert_allclose(here, there, atol=1e-5)


def test_seeds_options_and_refinement_are_in_the_bytes() -> None:
    d, r = gaussians((2000,))
    first, again = (encode_gaussians(d, r, 0, 1, seed=7, **FAST) for _ in range(2))
    assert first == again
    for more in ({"seed": 8}, {"nu": 9}, {"sampler": "greedy"}, {"refine": True}):
        options: dict[str, Any] = {"seed": 7, **more}
        if "sampler" not in more:
            options = FAST | options
        other = encode_gaussians(d, r, 0, 1, **options)
        assert other != first
        assert np.corrcoef(decode_gaussians(other, 0, 1), d)[0, 1] > 0.5


def test_refinement_pays_where_the_prior_is_wrong() -> None:
    d, r = gaussians((8, 1000))
    off = d + 2
    plain = encode_gaussians(off, r, 0, 1, channel_axis=0, **FAST)
    refined = encode_gaussians(off, r, 0, 1, channel_axis=0, refine=True, **FAST)
    assert len(refined) < 0.7 * len(plain)


# -- figures ------------------------------------------------------------------------------


@pytest.mark.parametrize("point", [1.0, 2.5, 5.0])
def test_any_shape_comes_within_a_point_of_the_benchs_figure(point: float) -> None:
    """The levels of ``toolkit bench samplers --synthetic``, and the same values in other shapes."""
    d, r = synthetic_level((128, 48, 32), top=point, bottom=point / 2000)
    bench = of_the_bench(d, r)
    shapes = [d.shape, (-1,), (128, -1), (128, 4, 12, 32)]
    for shape in shapes:
        a, b = d.reshape(shape), r.reshape(shape)
        assert j_percent(a, b) < bench + 1
    for axis in (1, 2):
        a, b = np.moveaxis(d, 0, axis), np.moveaxis(r, 0, axis)
        assert j_percent(a, b) < bench + 1
        assert j_percent(a, b, channel_axis=axis) < bench + 1


def test_few_values_take_few_bytes() -> None:
    assert len(encode_gaussians(0.5, 0.1, 0, 1)) < 36
    assert len(encode_gaussians(np.zeros(10**6), 1, 0, 1)) < 30  # nothing is known: no bits


@pytest.mark.parametrize("size", [1, 10, 1000, 10**5])
def test_numpy_and_torch_in_one_to_four_dimensions(size: int) -> None:
    """The same bytes of both, values by the posterior; with 100,000 of them the bench's figure."""
    level = (10, 100, 100) if size == 10**5 else (1, 1, size)
    d, r = synthetic_level(level, top=2.5, bottom=0.02)
    bench = of_the_bench(d, r)
    ends = {1: (1, 1, 1), 10: (2, 5, 1), 1000: (10, 20, 5), 10**5: (10, 50, 2)}[size]
    for count in range(4):
        shape = (*ends[:count], -1)
        a, b = d.reshape(shape), r.reshape(shape)
        data = encode_gaussians(a, b, 0, 1)
        assert data == encode_gaussians(torch.from_numpy(a), torch.from_numpy(b), 0, 1)
        z = decode_gaussians(data, torch.zeros(a.shape), 1)
        assert isinstance(z, torch.Tensor)
        np.testing.assert_array_equal(z.numpy(), decode_gaussians(data, 0, 1))
        assert np.sqrt(np.mean(((z.numpy() - a) / b) ** 2)) < 3
        if size == 10**5:
            assert figure_of_merit(a, b, z.numpy(), 8 * len(data)).j_percent < bench + 1


@pytest.fixture(scope="module")
def ten_million() -> tuple[Array, Array, float]:
    """A level of 10^7 values, and the bench's figure of it."""
    d, r = synthetic_level((100, 400, 250), top=2.5, bottom=0.00125)
    return d, r, of_the_bench(d, r)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "tensors"),
    [((-1,), False), ((100, -1), True), ((100, 400, 250), False), ((2, 50, 400, 250), True)],
    ids=str,
)
def test_ten_million_values(
    ten_million: tuple[Array, Array, float], shape: tuple[int, ...], tensors: bool
) -> None:
    d, r, bench = ten_million
    a, b = d.reshape(shape), r.reshape(shape)
    given = (torch.from_numpy(a), torch.from_numpy(b)) if tensors else (a, b)
    data = encode_gaussians(*given, 0, 1)
    z = np.asarray(decode_gaussians(data, torch.zeros(()) if tensors else 0, 1))
    assert figure_of_merit(a, b, z, 8 * len(data)).j_percent < bench + 1


# -- layouts --------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 9), max_size=5).map(tuple),
    st.data(),
)
@settings(max_examples=100, deadline=None)
def test_layouts_lose_nothing(shape: tuple[int, ...], data: st.DataObject) -> None:
    array = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    axis = data.draw(st.sampled_from([None, *range(len(shape))]))
    row = data.draw(st.integers(1, array.size))
    layout = ArrayLayout(shape, axis, row)
    level = layout.to_level(array, -1)
    assert level.shape == layout.level
    np.testing.assert_array_equal(layout.from_level(level), array)


@pytest.mark.parametrize("shape", [(3 * LONGEST_SIDE + 1,), (2, 2 * LONGEST_SIDE + 3)])
def test_sides_stay_short(shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, np.float32)
    for layout in (ArrayLayout(shape, None, array.size), ArrayLayout(shape, 0)):
        level = layout.to_level(array, 1)
        assert max(level.shape[1:]) <= LONGEST_SIDE
        np.testing.assert_array_equal(layout.from_level(level), array)


def test_the_axis_of_unlike_channels_is_found() -> None:
    d, r = synthetic_level((32, 24, 24), top=4.0)
    for axis in range(3):
        layout = choose_layout(np.moveaxis(d, 0, axis), np.moveaxis(r, 0, axis))
        assert layout.axis == axis
    alike, same = gaussians((32, 24, 24), bits=0.05)
    assert choose_layout(alike, same).channels == 1


# -- what can't be coded ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((np.zeros(3), np.zeros(3), 0, 1), "positive"),
        ((np.zeros(3), 1, 0, -1), "positive"),
        ((np.array([0, np.nan]), 1, 0, 1), "finite"),
        ((np.zeros(3), 1, 0, np.inf), "finite"),
        ((np.zeros(3), np.ones(4), 0, 1), "broadcast"),
        ((np.zeros((0, 3)), 1, 0, 1), "nothing to code"),
        ((np.zeros(3), 1, 1e9, 1), "scales away"),
        ((np.zeros(3, complex), 1, 0, 1), "real"),
    ],
)
def test_arguments_that_are_none(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        encode_gaussians(*arguments)


def test_settings_that_are_none() -> None:
    for wrong in ({"seed": -1}, {"seed": 2**32}, {"channel_axis": 1}, {"nu": 99}):
        with pytest.raises(UsageError):
            encode_gaussians(np.zeros(3), 1, 0, 1, **wrong)
    with pytest.raises(UnknownName, match="nearest: trellis"):
        encode_gaussians(np.zeros(3), 1, 0, 1, sampler="treliss")
    data = encode_gaussians(np.zeros(3), 1, 0, 1)
    with pytest.raises(UsageError, match=r"\(4,\) for values of shape \(3,\)"):
        decode_gaussians(data, np.zeros(4), 1)
    with pytest.raises(UsageError, match=r"\(2, 3\)"):
        decode_gaussians(data, torch.zeros(2, 3), 1)


# -- damage -----------------------------------------------------------------------------------


def sealed(body: bytes) -> bytes:
    head = MAGIC + b"\x01" + block(body)
    return head + zlib.crc32(head).to_bytes(4, "little")


def test_every_byte_counts() -> None:
    d, r = gaussians((300,))
    data = encode_gaussians(d, r, 0, 1)
    for end in range(len(data)):
        with pytest.raises((Truncated, NotAContainer)):
            decode_gaussians(data[:end], 0, 1)
    with pytest.raises(TrailingData):
        decode_gaussians(data + b"\0", 0, 1)
    for at in range(len(data)):
        with pytest.raises(BadFile):
            decode_gaussians(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :], 0, 1)


def test_each_kind_of_damage_has_its_error() -> None:
    data = encode_gaussians(np.zeros(300), 0.5, 0, 1)
    with pytest.raises(NotAContainer):
        decode_gaussians(b"PNG", 0, 1)
    with pytest.raises(NewerVersion):
        decode_gaussians(data[:2] + b"\x02" + data[3:], 0, 1)
    with pytest.raises(ChecksumMismatch):
        decode_gaussians(data[:-6] + b"??" + data[-4:], 0, 1)
    trellis = block(b"tc") + block(b"")
    shape = varint(1) + varint(3)
    with pytest.raises(UnknownPlugin):
        decode_gaussians(sealed(shape + b"\0\3\0" + block(b"zz") + block(b"")), 0, 1)
    for body in (
        varint(40) + b"\1" * 40,  # too many dimensions
        varint(1) + varint(0),  # no values
        shape + b"\2",  # an axis that isn't there
        shape + b"\0\0",  # rows of nothing
        shape + b"\0\4",  # rows longer than the array
        shape + b"\0\3" + varint(2**32) + trellis,  # a seed off its range
        shape + b"\0\3\0" + block(b"\xff") + block(b""),  # a name that is none
    ):
        with pytest.raises(BadHeader):
            decode_gaussians(sealed(body), 0, 1)


def test_few_bytes_may_not_claim_much() -> None:
    huge = sealed(varint(2) + varint(2**20) * 2 + b"\1\0" + block(b"tc") + block(b""))
    with pytest.raises(LimitExceeded):
        decode_gaussians(huge, 0, 1)


@given(st.binary(max_size=80))
@settings(max_examples=300, deadline=None)
def test_any_body_gives_values_or_a_bad_file(rest: bytes) -> None:
    body = varint(2) + varint(6) + varint(5) + b"\1\0" + block(b"tc") + block(b"") + rest
    for data in (sealed(rest), sealed(body)):
        try:
            z = decode_gaussians(data, 0, 1)
        except BadFile:
            continue
        assert np.isfinite(z).all()


def test_neither_torch_nor_a_plugin_is_needed_to_import_it() -> None:
    code = (
        "import sys; from toolkit.sampling import encode_gaussians, decode_gaussians;"
        "decode_gaussians(encode_gaussians([0.5, 2.0], 0.1, 0, 1), 0, 1);"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
