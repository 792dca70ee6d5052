"""``encode`` and ``decode`` of pictures with EXIF, profiles, 16 bits, several frames."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from deep_pictures import png16
from PIL import ExifTags, Image, ImageCms

import toolkit
from toolkit.codec.metadata import Metadata
from toolkit.codec.picture import Picture

Run = Callable[..., tuple[int, str, str]]
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    """A photograph taken upright, 60 wide and 80 high, as cameras store it: on its side."""
    rows, columns = np.mgrid[:60, :80]
    waves = 128 + 60 * np.sin(rows / 5) + 50 * np.cos(columns / 7)
    pixels = np.stack([waves, waves[::-1], 255 - waves], 2).clip(0, 255).astype(np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Camera & Sons"
    exif[ExifTags.Base.Orientation] = 6
    path = tmp_path / "camera.jpg"
    Image.fromarray(pixels).save(path, exif=exif, icc_profile=PROFILE, dpi=(240, 240), quality=95)
    return path


def content(path: Path) -> tuple[str | None, bool, tuple[int, int] | None, tuple[int, int]]:
    """Make, whether it has our profile, resolution and size, as Pillow reads them."""
    with Image.open(path) as image:
        image.load()
        exif, dpi = image.getexif(), image.info.get("dpi")
        assert exif.get(ExifTags.Base.Orientation, 1) == 1
        return (
            exif.get(ExifTags.Base.Make),
            image.info.get("icc_profile") == PROFILE,
            None if dpi is None else (round(dpi[0]), round(dpi[1])),
            image.size,
        )


@pytest.mark.parametrize(
    ("suffix", "wanted"),
    [
        ("png", ("Camera & Sons", True, (240, 240))), ("tif", ("Camera & Sons", True, (240, 240))),
        ("webp", ("Camera & Sons", True, None)), ("bmp", (None, False, (240, 240))),
        ("ppm", (None, False, None)),
    ],
)  # fmt: skip
def test_there_and_back(
    run: Run, camera: Path, tmp_path: Path, suffix: str, wanted: tuple[object, ...]
) -> None:
    coded, shown = tmp_path / "a.qf", tmp_path / f"b.{suffix}"
    assert run("encode", camera, coded, "--codec", "pln-fast")[0] == 0
    assert run("decode", coded, shown)[0] == 0
    assert content(shown) == (*wanted, (60, 80))
    told = json.loads(run("info", coded, "--json")[1])
    assert (told["width"], told["height"]) == (60, 80)
    assert f"ICC profile {len(PROFILE)} bytes, 240 x 240 pixels per inch" in told["metadata"]
    assert told["streams"][-1]["name"] == "+m"
    assert "level1" in told


def blocks(data: bytes) -> dict[bytes, bytes]:
    """What a PNG, WebP or JPEG file holds, read by its format's own rules, the first of each."""
    found: dict[bytes, bytes] = {}
    at = {b"\x89PNG": 8, b"RIFF": 12}.get(data[:4], 2)
    while at < len(data):
        if data[:2] == b"\xff\xd8":
            if data[at + 1] == 0xDA:
                break
            kind, size = data[at + 1 : at + 2], int.from_bytes(data[at + 2 : at + 4], "big") - 2
            start, end = at + 4, at + 4 + size
        elif data[:4] == b"RIFF":
            kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
            start, end = at + 8, at + 8 + size + size % 2
        else:
            size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
            start, end = at + 8, at + 12 + size
        found.setdefault(kind, data[start : start + size])
        at = end
    return found


def test_where_each_format_says_it_lies(run: Run, camera: Path, tmp_path: Path) -> None:
    """Without Pillow: EXIF's own bytes, but for the orientation, and the profile's."""
    exif = blocks(camera.read_bytes())[b"\xe1"].removeprefix(b"Exif\0\0")
    tag = exif.index(b"\x12\x01\x03\0\x01\0\0\0") + 8 if exif[:2] == b"II" else (
        exif.index(b"\x01\x12\0\x03\0\0\0\x01") + 8)  # fmt: skip
    upright = bytearray(exif)
    upright[tag : tag + 2] = b"\1\0" if exif[:2] == b"II" else b"\0\1"
    assert upright != exif
    coded = tmp_path / "a.qf"
    assert run("encode", camera, coded, "--codec", "pln-fast")[0] == 0
    for suffix in ("png", "webp", "jpg"):
        assert run("decode", coded, tmp_path / f"a.{suffix}")[0] == 0
    png = blocks((tmp_path / "a.png").read_bytes())
    assert png[b"eXIf"] == upright
    assert zlib.decompress(png[b"iCCP"].partition(b"\0")[2][1:]) == PROFILE
    assert struct.unpack(">IIB", png[b"pHYs"]) == (9449, 9449, 1)  # pixels a metre
    webp = blocks((tmp_path / "a.webp").read_bytes())
    assert webp[b"EXIF"].removeprefix(b"Exif\0\0") == upright
    assert webp[b"ICCP"] == PROFILE
    jpeg = blocks((tmp_path / "a.jpg").read_bytes())
    assert jpeg[b"\xe1"] == b"Exif\0\0" + upright
    assert jpeg[b"\xe2"] == b"ICC_PROFILE\0\1\1" + PROFILE
    assert jpeg[b"\xe0"][7:12] == struct.pack(">BHH", 1, 240, 240)


def test_metadata_that_a_picture_cannot_hold_is_left_out(run: Run, tmp_path: Path) -> None:
    exif = b"II*\0\x08\0\0\0\0\0" + bytes(70_000)
    pixels = np.zeros((20, 30, 3), np.uint8)
    data = toolkit.load("pln-fast").encode(Picture(pixels, Metadata(exif)), 0.3).data
    (tmp_path / "a.qf").write_bytes(data)
    status, _, err = run("decode", tmp_path / "a.qf", tmp_path / "a.jpg")
    assert status == 0
    assert "JPEG can't hold EXIF 70010 bytes: left out" in err
    with Image.open(tmp_path / "a.jpg") as image:
        assert (image.size, "exif" in image.info) == ((30, 20), False)


def test_damaged_exif_is_left_out_and_said(run: Run, camera: Path, tmp_path: Path) -> None:
    data = camera.read_bytes()
    at = data.index(b"Exif\0\0") + 6
    camera.write_bytes(data[:at] + b"??" + data[at + 2 :])
    status, _, err = run("encode", camera, tmp_path / "a.qf", "--codec", "pln-fast")
    assert status == 0
    assert f"{camera}: its EXIF is damaged: left out" in err


def test_strip_on_either_side(run: Run, camera: Path, tmp_path: Path) -> None:
    full, bare = tmp_path / "full.qf", tmp_path / "bare.qf"
    status, _, err = run("encode", camera, full, "--codec", "pln-fast")
    assert status == 0
    assert "% of the file is metadata: --strip leaves it out" in err
    status, _, err = run("encode", camera, bare, "--codec", "pln-fast", "--strip")
    assert (status, err) == (0, "")
    assert bare.stat().st_size < full.stat().st_size
    assert "metadata" not in json.loads(run("info", bare, "--json")[1])
    for source, more in ((bare, []), (full, ["--strip"])):
        shown = tmp_path / f"{source.stem}.png"
        assert run("decode", source, shown, *more)[0] == 0
        assert content(shown) == (None, False, None, (60, 80))


def test_a_format_that_does_not_carry_it_is_told(run: Run, camera: Path, tmp_path: Path) -> None:
    coded = tmp_path / "a.jp2"
    status, _, err = run("encode", camera, coded, "--codec", "jpeg2000")
    assert status == 0
    assert "camera.jpg: colour profile left out" in err
    status, _, err = run("encode", camera, coded, "--codec", "jpeg2000", "--strip", "--force")
    assert (status, err) == (0, "")


def test_a_target_counts_metadata(run: Run, camera: Path, tmp_path: Path) -> None:
    coded = tmp_path / "a.qf"
    size = len(PROFILE) + 900
    status = run("encode", camera, coded, "--codec", "pln-fast", "--target-bytes", size)[0]
    assert status == 0
    assert coded.stat().st_size <= size
    assert run("decode", coded, tmp_path / "a.png")[0] == 0
    assert content(tmp_path / "a.png")[:2] == ("Camera & Sons", True)


def test_a_jpeg_from_a_camera_is_decoded_upright(run: Run, camera: Path, tmp_path: Path) -> None:
    for suffix in ("png", "ppm"):
        shown = tmp_path / f"a.{suffix}"
        assert run("decode", camera, shown)[0] == 0
        assert content(shown)[3] == (60, 80)


def test_16_bits(run: Run, tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(0, 65536, (24, 32, 3))
    path, coded = png16(tmp_path / "deep.png", samples), tmp_path / "a.jpg"
    status, _, err = run("encode", path, coded, "--codec", "jpeg")
    assert (status, "--depth 8 rounds" in err) == (3, True)
    assert run("encode", path, coded, "--codec", "jpeg", "--depth", 8)[0] == 0
    assert run("encode", path, coded, "--codec", "jpeg", "--depth", 12)[0] == 2


def test_animations_and_pages_are_refused(run: Run, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (9, 9), (60 * n, 0, 99)) for n in range(4)]
    for suffix in ("gif", "tif", "webp", "png"):
        path = tmp_path / f"a.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        status, _, err = run("encode", path, tmp_path / "a.qf", "--codec", "pln-fast")
        assert status == 3
        assert err == f"toolkit: {path}: 4 frames or pages; only still pictures are taken\n"
