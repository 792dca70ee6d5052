"""Files that ladders wrote once, with tiny weights, go on decoding to the same pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from toolkit.api import decode_file
from toolkit.codec.base import DecodeSettings, as_picture
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
    found, expected = decode_file(path.read_bytes(), how), as_picture(path.with_suffix(".png"))
    assert found.pixels.shape == expected.pixels.shape
    assert np.abs(found.pixels.astype(int) - expected.pixels).max() <= 1
    assert (found.metadata.exif, found.metadata.icc) == (
        expected.metadata.exif,
        expected.metadata.icc,
    )
    assert bool(found.metadata) == path.stem.startswith("metadata")


@pytest.mark.parametrize("path", EVERY, ids=label)
def test_golden_files_cut_at_any_byte_are_truncated(path: Path) -> None:
    data = path.read_bytes()
    read_container(data)
    for length in range(8, len(data)):  # of less, nobody can say what it is
        with pytest.raises(Truncated):
            read_container(data[:length])


def test_the_golden_files_are_there() -> None:
    """At least 60; every sampler, mode and size."""
    assert len(GOLDEN) == 45
    assert len(EVERY) == 66
    names = {path.stem.partition("-")[0] for path in GOLDEN}
    assert names == {"isgs", "metadata", *load_plugins().samplers}
    kinds = {tuple(path.stem.split("-")[-2:]) for path in EVERY}
    assert {("RGB", "1x1"), ("L", "17x31"), ("RGBA", "129x255"), ("L", "512x768")} <= kinds
