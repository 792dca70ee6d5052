"""Shared randomness: pinned, addressable, and of the distribution it claims."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.sampling.randomness import SharedRandom, normal_table


def test_philox_known_answers() -> None:
    """Test vectors that Salmon et al. publish with Random123: counter and key of zeros."""
    words = SharedRandom(0, 0).words(0, [0], 4)[0]
    assert [f"{word:08x}" for word in words] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


def test_table_is_pinned() -> None:
    table = normal_table()
    digest = hashlib.sha256(table.tobytes()).hexdigest()
    assert digest == "8422cf312998f0a9b1a53e8c310b44117c100408dbcf920220ca232c9852b413"
    assert np.array_equal(table, -table[::-1])
    assert np.array_equal(table * 2**16, np.rint(table * 2**16))


def test_draws_are_pinned() -> None:
    random = SharedRandom(1234, 1)
    rows = [0, 1, 2**32, 2**63]
    assert (
        hashlib.sha256(random.normals(5, rows, 27).tobytes()).hexdigest()[:16] == "f9a792593d765309"
    )
    assert (
        hashlib.sha256(random.signs(5, rows, 70).tobytes()).hexdigest()[:16] == "2b9d03dc1a028f05"
    )
    permutation = random.permutation(2, 1000)
    assert hashlib.sha256(permutation.tobytes()).hexdigest()[:16] == "838b5882264dfcf2"


@given(
    rows=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=9),
    width=st.integers(1, 600),
    stream=st.integers(0, 2**32 - 1),
)
def test_random_access(rows: list[int], width: int, stream: int) -> None:
    """A row is a function of its own address, a narrower draw a prefix of a wider one."""
    random = SharedRandom(7, 1)
    addresses = np.array(rows, np.uint64)
    together = random.normals(stream, addresses, width)
    for row, address in zip(together, addresses, strict=True):
        assert np.array_equal(row, random.normals(stream, [address], width + 13)[0, :width])


@pytest.mark.parametrize("change", ["seed", "level", "stream", "row"])
def test_addresses_differ(change: str) -> None:
    def draw(seed: int = 0, level: int = 0, stream: int = 0, row: int = 0) -> np.ndarray:
        return SharedRandom(seed, level).normals(stream, [row], 4096)[0]

    correlation = np.mean(draw() * draw(**{change: 1}))
    assert abs(correlation) < 5 / np.sqrt(4096)


def test_moments() -> None:
    draws = SharedRandom(3, 0).normals(0, np.arange(1000), 1000).astype(np.float64)
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
        spread = [1, 2, 15, 96][power - 1] ** 0.5 / 1000
        assert abs(np.mean(draws**power) - moment) < 5 * spread


def test_permutation_is_one() -> None:
    assert np.array_equal(np.sort(SharedRandom(9, 0).permutation(1, 999)), np.arange(999))


def test_signs_are_balanced() -> None:
    signs = SharedRandom(9, 0).signs(1, np.arange(100), 1000)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert abs(signs.mean()) < 5 / np.sqrt(signs.size)
