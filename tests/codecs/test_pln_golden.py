"""Files that the PLN wrote once, with tiny weights, go on decoding to the same pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from toolkit.api import decode_file
from toolkit.codec.base import DecodeSettings, as_pixels

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "pln").glob("*.qf"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files_decode_for_good(path: Path) -> None:
    how = DecodeSettings(weights=path.with_name("weights.safetensors"))
    shown = decode_file(path.read_bytes(), how).pixels
    expected = as_pixels(path.with_suffix(".png"))
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).max() <= 1


def test_the_golden_files_are_there() -> None:
    assert len(GOLDEN) == 8
