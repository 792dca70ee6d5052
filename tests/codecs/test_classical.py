"""Classical codecs: native files, there and back, and clear errors for damaged ones."""

from __future__ import annotations

import csv
import io
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

import toolkit
from toolkit.cli.options import presets_with_options
from toolkit.codec.base import Codec, as_pixels, mode_of
from toolkit.errors import InputError, UsageError
from toolkit.format.container import BadFile, BadStream, LimitExceeded
from toolkit.options import parse_options
from toolkit.plugin.loader import load_plugins
from toolkit.plugin.presets import load_registry, open_codec

DATA = Path(__file__).parents[3] / "shared" / "data"
KODAK = DATA / "kodak"
CURVES = DATA / "reference" / "compressai-kodak"
NAMES = ("jpeg", "webp", "jpeg2000", "avif", "heic", "jxl", "bpg")
SIZES = ((1, 1), (17, 31), (513, 511))
POINTS = {"jpeg2000": (20.0, 5.0), "bpg": (40, 25)}
"""A coarse and a fine point; (30, 80) for the others."""


@cache
def codec(name: str, **options: Any) -> Codec:
    spec = load_plugins().codec(name)
    if spec.missing():
        pytest.skip(f"{', '.join(spec.missing())} isn't installed")
    return spec.loaded(spec, parse_options(spec.loaded.options_class, options, name))


def points(name: str) -> tuple[float, float]:
    return POINTS.get(name, (30, 80))


@cache
def photograph() -> np.ndarray:
    from skimage.data import astronaut

    return np.tile(astronaut(), (1, 2, 1))


def picture(width: int, height: int, mode: str) -> np.ndarray:
    """A part of a photograph, with a ramp as its alpha; uint8 (H, W, C)."""
    colour = photograph()[:height, :width]
    if mode == "L":
        return np.ascontiguousarray(colour[:, :, 1:2])
    ramp = np.linspace(60, 255, width).astype(np.uint8)[None, :, None].repeat(height, 0)
    return np.concatenate([colour, ramp], 2) if mode == "RGBA" else np.ascontiguousarray(colour)


def psnr(original: np.ndarray, decoded: np.ndarray) -> float:
    error = np.mean((original.astype(float) - decoded) ** 2)
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_round_trip(name: str, mode: str, size: tuple[int, int]) -> None:
    pixels = picture(*size, mode)
    if (name, mode) == ("jpeg", "RGBA"):
        with pytest.raises(InputError, match="no alpha"):
            codec(name).encode(pixels, 50)
        return
    coarse, fine = (codec(name).encode(pixels, point) for point in points(name))
    decoded = codec(name).decode(fine.data).pixels
    assert decoded.dtype == np.uint8
    if (name, mode) == ("webp", "L"):  # which has no gray
        pixels = pixels.repeat(3, axis=2)
    assert mode_of(decoded) == mode_of(pixels)
    assert decoded.shape == pixels.shape
    if size == SIZES[-1]:
        assert len(coarse.data) < len(fine.data)
        assert psnr(pixels, codec(name).decode(coarse.data).pixels) < psnr(pixels, decoded)
        assert psnr(pixels, decoded) > 30


@pytest.mark.parametrize("name", NAMES)
def test_the_same_picture_gives_the_same_file(name: str) -> None:
    pixels = picture(64, 48, "RGB")
    assert codec(name).encode(pixels, 50).data == codec(name).encode(pixels, 50).data


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("heic", "jxl", "bpg")])
def test_files_are_those_of_the_format(name: str) -> None:
    """Pillow alone opens them, and finds the size and mode of the picture."""
    with Image.open(io.BytesIO(codec(name).encode(picture(40, 30, "RGB"), 50).data)) as opened:
        assert (opened.format or "").lower() == name
        assert (opened.size, opened.mode) == ((40, 30), "RGB")


@pytest.mark.parametrize("name", NAMES)
def test_libraries_are_named_with_their_versions(name: str) -> None:
    libraries = codec(name).identity()
    assert len(libraries) >= 2
    assert all(version for version in libraries.values())
    json.dumps(libraries)


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_give_a_picture_or_a_clear_error(name: str) -> None:
    pixels = picture(80, 96, "RGB")
    original = codec(name).encode(pixels, points(name)[0]).data
    rng, messages = random.Random(1), []
    for trial in range(200):
        data = bytearray(original)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(min(len(data), 300 if trial % 2 else len(data)))] ^= rng.randrange(
                1, 256
            )
        try:
            assert codec(name).decode(bytes(data)).pixels.dtype == np.uint8
        except BadFile as error:
            messages.append(str(error))
    assert messages
    assert all(message.startswith(f"{name}: ") and "\n" not in message for message in messages)


@pytest.mark.parametrize("name", NAMES)
def test_cut_files_are_refused(name: str) -> None:
    data = codec(name).encode(picture(80, 96, "RGB"), points(name)[0]).data
    for size in (0, 3, 12, len(data) // 3, 2 * len(data) // 3):
        with pytest.raises(BadStream, match=f"^{name}: "):
            codec(name).decode(data[:size])


@pytest.mark.parametrize("name", NAMES)
def test_files_of_another_format_are_refused(name: str) -> None:
    other = "webp" if name == "jpeg" else "jpeg"
    with pytest.raises(BadStream, match="not a"):
        codec(name).decode(codec(other).encode(picture(8, 8, "RGB"), 50).data)


def test_too_large_a_picture_is_refused_before_it_is_decoded() -> None:
    data = bytearray(codec("jpeg").encode(picture(16, 16, "RGB"), 50).data)
    at = data.index(b"\xff\xc0")  # the frame header: length, precision, height, width
    data[at + 5 : at + 9] = b"\xfe\xfe\xfe\xfe"
    with pytest.raises((LimitExceeded, BadStream), match=r"65278x65278|exceeds limit"):
        codec("jpeg").decode(bytes(data))


def test_too_large_a_jpeg_xl_is_refused_before_it_is_decoded() -> None:
    codec("jxl")
    # SizeHeader, lowest bit first: not small, 30-bit height, no ratio, 30-bit width
    size = (1 << 30) - 1
    header = 0 | 3 << 1 | size << 3 | 0 << 33 | 3 << 36 | size << 38
    with pytest.raises(LimitExceeded, match=f"{2**30}x{2**30}"):
        codec("jxl").decode(b"\xff\x0a" + header.to_bytes(9, "little") + bytes(40))


@pytest.mark.parametrize("name", NAMES)
def test_points_out_of_range(name: str) -> None:
    with pytest.raises(UsageError, match=rf"{name}: \w+ must be"):
        codec(name).encode(picture(8, 8, "RGB"), 1e9)


@pytest.mark.parametrize("mode", ["CMYK", "I;16", "F"])
def test_other_than_8_bits_or_three_colours_is_refused(mode: str) -> None:
    with pytest.raises(InputError, match=f"mode {mode}.*convert"):
        codec("jpeg").encode(Image.new(mode, (8, 8)), 50)


def test_unknown_chroma_is_refused() -> None:
    with pytest.raises(UsageError, match="chroma"):
        codec("jpeg", chroma="4:1:1")


@pytest.mark.parametrize("name", ["jpeg", "avif", "heic", "bpg"])
def test_subsampled_chroma_takes_fewer_bits(name: str) -> None:
    pixels = picture(256, 256, "RGB")
    full, half = (
        codec(name, chroma=chroma).encode(pixels, points(name)[1]) for chroma in ("4:4:4", "4:2:0")
    )
    assert len(half.data) < len(full.data)
    assert codec(name).decode(half.data).pixels.shape == pixels.shape


@pytest.mark.parametrize("chroma", ["420", "444"])
def test_the_best_jpeg_is_the_default_s_pixels_in_fewer_bits(chroma: str) -> None:
    default = {"420": "jpeg", "444": "jpeg-444"}[chroma]
    best = f"{default}-progressive"
    pixels = picture(256, 256, "RGB")
    plain, small = (toolkit.load(name).encode(pixels, 50).data for name in (default, best))
    assert len(small) < len(plain)
    np.testing.assert_array_equal(*(codec("jpeg").decode(data).pixels for data in (plain, small)))
    with Image.open(io.BytesIO(small)) as opened:
        assert opened.info["progressive"]
        assert JpegImagePlugin.get_sampling(opened) == (0 if chroma == "444" else 2)


def test_chroma_can_be_named_on_the_command_line() -> None:
    preset = presets_with_options(load_registry(load_plugins()), ["jpeg"], ["chroma=4:4:4"])[0]
    assert preset.options == {"chroma": "4:4:4"}
    pixels = picture(64, 64, "RGB")
    assert open_codec(load_plugins(), preset).encode(pixels, 50).data == (
        codec("jpeg", chroma="4:4:4").encode(pixels, 50).data
    )


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("jpeg", {"optimise": False}, {"optimise": True}),
        ("webp", {"effort": 0}, {"effort": 6}),
        ("avif", {"effort": 1}, {"effort": 6}),
        ("heic", {"effort": "ultrafast"}, {"effort": "slow"}),
        ("jxl", {"effort": 3}, {"effort": 7}),
        ("bpg", {"effort": 1}, {"effort": 8}),
        ("avif", {"tune": "default"}, {"tune": "psnr"}),
        ("heic", {"tune": "ssim"}, {"tune": "psnr"}),
    ],
)
def test_effort_and_tuning_have_an_effect(
    name: str, low: dict[str, Any], high: dict[str, Any]
) -> None:
    pixels = picture(256, 256, "RGB")
    assert codec(name, **low).encode(pixels, 50).data != codec(name, **high).encode(pixels, 50).data


def kodak() -> list[Path]:
    files = sorted(KODAK.glob("kodim*.png"))
    if len(files) != 24:
        pytest.skip("the Kodak pictures aren't at ../shared/data/kodak")
    return files


@pytest.mark.parametrize(
    ("quality", "bpp", "decibels"), [(5, 0.2212, 23.85), (10, 0.3266, 26.67), (20, 0.5083, 29.14)]
)
def test_jpeg_means_over_kodak(quality: int, bpp: float, decibels: float) -> None:
    """Mean rate and PSNR over the 24 pictures."""
    rate, level = kodak_means(codec("jpeg"), quality)
    assert rate == pytest.approx(bpp, abs=0.001)
    assert level == pytest.approx(decibels, abs=0.15)


@pytest.mark.parametrize(
    ("name", "options", "point", "tolerance"),
    [
        ("webp", {}, 20, 0.1),
        ("jpeg2000", {"wavelet": "5/3", "colour": "limited"}, 60, 0.02),
    ],
)
def test_published_curves_over_kodak(
    name: str, options: dict[str, Any], point: float, tolerance: float
) -> None:
    """At the same rate, CompressAI's mean PSNR."""
    rate, level = kodak_means(codec(name, **options), point)
    assert level == pytest.approx(published_level(name, rate), abs=tolerance)


def test_jpeg2000_as_it_is_meant_is_better_than_as_it_was_published() -> None:
    pixels = photograph()[:, :512]
    published = {"wavelet": "5/3", "colour": "limited"}
    levels = []
    for options in ({}, published):
        data = codec("jpeg2000", **options).encode(pixels, 60).data
        levels.append(psnr(pixels, codec("jpeg2000").decode(data).pixels))
    assert levels[0] > levels[1] + 0.5


@pytest.mark.parametrize(
    ("name", "method", "options", "sweep"),
    [("jpeg", "jpeg", {}, (22, 43)), ("bpg", "bpg444", {"colour": "rgb"}, (48, 42))],
)
def test_curves_of_the_thesis(
    name: str, method: str, options: dict[str, Any], sweep: tuple[float, ...]
) -> None:
    """Figure 4.1, kodim01, as read from the plot: the same PSNR at the same rate."""
    pixels = as_pixels(kodak()[0])
    with open(DATA / "reference" / "thesis_kodak_digitised.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == method]
    plotted = sorted(
        (float(row["bpp"]), float(row["psnr_dB"]))
        for row in rows
        if row["image"] == "kodim01" and row["psnr_dB"]
    )
    for point in sweep:
        data = codec(name, **options).encode(pixels, point).data
        rate = 8 * len(data) / pixels[:, :, 0].size
        expected = np.interp(np.log(rate), np.log([p[0] for p in plotted]), [p[1] for p in plotted])
        level = psnr(pixels, codec(name).decode(data).pixels)
        assert level == pytest.approx(expected, abs=0.15)


def kodak_means(codec: Codec, point: float) -> tuple[float, float]:
    """Mean bits per pixel and mean PSNR."""
    rates, levels = [], []
    for file in kodak():
        pixels = as_pixels(file)
        data = codec.encode(pixels, point).data
        rates.append(8 * len(data) / pixels[:, :, 0].size)
        levels.append(psnr(pixels, codec.decode(data).pixels))
    return float(np.mean(rates)), float(np.mean(levels))


def published_level(name: str, rate: float) -> float:
    """PSNR of CompressAI's published curve at ``rate``, linear in log rate between its points."""
    results = json.loads((CURVES / f"{name}.json").read_text())["results"]
    rates, levels = np.array(results["bpp"]), np.array(results["psnr-rgb"])
    order = np.argsort(rates)
    return float(np.interp(np.log(rate), np.log(rates[order]), levels[order]))
