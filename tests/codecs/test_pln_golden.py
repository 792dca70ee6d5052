"""Files that ladders wrote once, with tiny weights, go on decoding to the same pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from toolkit.api import decode_file
from toolkit.codec.base import DecodeSettings, as_pixels
from toolkit.format.container import Truncated, read_container
from toolkit.plugin.loader import load_plugins

FOLDER = Path(__file__).parents[1] / "golden"
EVERY = sorted(FOLDER.glob("*/*.qf"))
GOLDEN = [path for path in EVERY if path.parent.name in ("pln", "vae")]


def label(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


@pytest.mark.parametrize("path", GOLDEN, ids=label)
def test_golden_files_decode_for_good(path: Path) -> None:
    how = DecodeSettings(weights=path.with_name("weights.safetensors"))
    shown = decode_file(path.read_bytes(), how).pixels
    expected = as_pixels(path.with_suffix(".png"))
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("path", EVERY, ids=label)
def test_golden_files_cut_at_any_byte_are_truncated(path: Path) -> None:
    data = path.read_bytes()
    read_container(data)
    for length in range(8, len(data)):  # of less, nobody can say what it is
        with pytest.raises(Truncated):
            read_container(data[:length])


def test_the_golden_files_are_there() -> None:
    """At least 60; every sampler, mode and size."""
    assert len(GOLDEN) == 43
    assert len(EVERY) == 64
    names = {path.stem.partition("-")[0] for path in GOLDEN}
    assert names == {"isgs", *load_plugins().samplers}
    kinds = {tuple(path.stem.split("-")[-2:]) for path in EVERY}
    assert {("RGB", "1x1"), ("L", "17x31"), ("RGBA", "129x255"), ("L", "512x768")} <= kinds
