"""Reading pictures: whatever a reader raises is one clear error, and sizes are checked first."""

from __future__ import annotations

import io
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from toolkit.codec.picture import as_pixels
from toolkit.errors import InputError, ResourceError
from toolkit.format.errors import LimitExceeded
from toolkit.format.limits import limited


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def unknown_dds() -> bytes:
    """A DirectDraw surface in a format that nobody has, which Pillow calls not implemented."""
    header = struct.pack("<7I44x", 124, 0x1007, 8, 8, 0, 0, 0)
    return b"DDS " + header + struct.pack("<2I4s5I", 32, 4, b"ABCD", 0, 0, 0, 0, 0) + bytes(200)


def test_formats_that_are_not_implemented(tmp_path: Path) -> None:
    path = tmp_path / "a.dds"
    path.write_bytes(unknown_dds())
    with pytest.raises(NotImplementedError):
        Image.open(path)
    with pytest.raises(InputError, match=r"a.dds: not an image that can be read \(Unimpl"):
        as_pixels(path)


@pytest.mark.parametrize("form", ["AVIF", "WEBP", "PNG", "TIFF", "JPEG2000", "GIF", "BMP", "ICO"])
def test_damaged_files_give_pixels_or_one_error(form: str, picture: Path, tmp_path: Path) -> None:
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("Pillow has no AVIF here")
    content = io.BytesIO()
    Image.open(picture).save(content, form)
    good, path = content.getvalue(), tmp_path / "damaged"
    random = np.random.default_rng(1)
    failed: list[str] = []
    for trial in range(150):
        bad = bytearray(good[: random.integers(1, len(good))] if trial % 3 == 0 else good)
        for _ in range(random.integers(1, 6)):
            # headers are where readers trip
            end = min(len(bad), 200) if trial % 2 else len(bad)
            bad[random.integers(0, end)] = random.integers(0, 256)
        path.write_bytes(bad)
        try:
            with limited(pixels=10**6):
                assert as_pixels(path).dtype == np.uint8
        except (InputError, LimitExceeded) as error:
            failed += [str(error)]
    assert len(failed) > 10
    assert not [text for text in failed if "\n" in text]


@pytest.mark.parametrize(
    "error",
    [RuntimeError("bad\nstate"), NotImplementedError(), SyntaxError("x"), TypeError("x"),
     AttributeError("x"), struct.error("x"), EOFError(), IndexError("x"), OverflowError("x"),
     UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), RecursionError("x")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_whatever_a_reader_raises(
    error: Exception, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(self: object) -> None:
        raise error

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    with pytest.raises(
        InputError, match=r"^[^\n]*a.png: not an image that can be read \([^\n]+\)$"
    ):
        as_pixels(picture)


def test_out_of_memory_is_not_a_damaged_picture(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(self: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    with pytest.raises(ResourceError, match=r"a.png: out of memory"):
        as_pixels(picture)


def test_folders_and_names_that_are_not_utf8(picture: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an image"):
        as_pixels(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        as_pixels(tmp_path / "none.png")
    with pytest.raises(InputError):
        as_pixels(str(tmp_path / "a\0b.png"))
    if sys.platform != "darwin":
        odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")
        os.rename(picture, odd)
        assert as_pixels(odd).shape == (40, 50, 3)
        Path(odd).write_bytes(b"no picture")
        with pytest.raises(InputError):
            as_pixels(odd)


def test_sizes_are_checked_before_pixels_are_made(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(self: object) -> None:
        raise AssertionError("decoded in spite of its size")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    with limited(pixels=1999), pytest.raises(LimitExceeded, match=r"a.png: 50x40 are 2000 pixels"):
        as_pixels(picture)


def test_a_limit_beyond_pillows_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb that Pillow refuses, unless asked for."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("1", (50, 40)).save(tmp_path / "a.png")
    with pytest.raises(LimitExceeded, match="--max-pixels"):
        as_pixels(tmp_path / "a.png")
    with limited(pixels=10**9):
        assert as_pixels(tmp_path / "a.png").shape == (40, 50, 1)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_open_files_are_taken(picture: Path) -> None:
    with open(picture, "rb") as file:
        np.testing.assert_array_equal(as_pixels(file), as_pixels(picture))
