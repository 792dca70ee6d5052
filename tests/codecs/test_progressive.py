"""Files of ladders show more the more of their levels are decoded, and what a cut one has."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import toolkit
from toolkit.api import decode_file
from toolkit.cli import main
from toolkit.codec.base import Codec, DecodeSettings, Pixels
from toolkit.format.container import Truncated, read_header
from toolkit_evaluation.data.datasets import sample_paths


@pytest.fixture(scope="module")
def codec() -> Codec:
    return toolkit.load("pln-fast")


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    path = next(p for p in sample_paths() if p.stem == "astronaut")
    return np.ascontiguousarray(np.asarray(Image.open(path))[:128, 100:260])


def error(pixels: Pixels, shown: Pixels) -> float:
    return float(np.mean((pixels.astype(float) - shown) ** 2))


def test_more_levels_show_more(codec: Codec, pixels: Pixels) -> None:
    data = codec.encode(pixels, 0.5).data
    shown = [decode_file(data, DecodeSettings(levels=n)) for n in range(3)]
    errors = [error(pixels, decoded.pixels) for decoded in shown]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.5 * errors[0]
    assert [decoded.levels for decoded in shown] == [(0, 2), (1, 2), (2, 2)]
    np.testing.assert_array_equal(shown[2].pixels, toolkit.decode(data))


@pytest.mark.parametrize("channels", [3, 4])
def test_a_cut_file_is_decoded_as_far_as_it_goes(
    codec: Codec, pixels: Pixels, channels: int
) -> None:
    rng = np.random.default_rng(0)
    alpha = rng.integers(0, 256, (*pixels.shape[:2], 1), dtype=np.uint8)
    picture = pixels if channels == 3 else np.concatenate([pixels, alpha], axis=2)
    data = codec.encode(picture, 0.5).data
    start = read_header(data).size
    for size in (start, len(data) // 2, len(data) - 1):
        with pytest.raises(Truncated):
            toolkit.decode(data[:size])
        decoded = decode_file(data[:size], DecodeSettings(partial=True))
        assert decoded.pixels.shape == picture.shape
        assert decoded.levels is not None
        assert decoded.levels[0] <= decoded.levels[1] == 2
    np.testing.assert_array_equal(
        decode_file(data, DecodeSettings(partial=True)).pixels, toolkit.decode(data)
    )
    with pytest.raises(Truncated):
        decode_file(data[: start - 1], DecodeSettings(partial=True))


def test_the_command_says_what_it_shows(
    codec: Codec,
    pixels: Pixels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = codec.encode(pixels, 0.5).data
    (tmp_path / "cut.qf").write_bytes(data[: len(data) * 3 // 4])
    command = ["decode", str(tmp_path / "cut.qf"), str(tmp_path / "out.png"), "--partial"]
    monkeypatch.setattr(sys, "argv", ["toolkit", *command])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    assert "160x128 RGB, 1 of 2 levels" in capsys.readouterr().out
