"""EXIF, colour profiles, resolution and orientation: what belongs to a picture stays with it."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps

import toolkit
from toolkit.codec.base import Codec, DecodeSettings, as_picture
from toolkit.codec.metadata import (
    METADATA,
    MOST_BYTES,
    NO_METADATA,
    Metadata,
    fitting,
    metadata_of,
    pack_metadata,
    turned,
    unpack_metadata,
    upright,
)
from toolkit.codec.opening import decode_file
from toolkit.errors import UsageError
from toolkit.format.container import (
    BadFile,
    BadStream,
    NewerVersion,
    Stream,
    read_container,
    write_container,
)

BASE = ExifTags.Base
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif_bytes(orientation: int = 1, end: str = "<") -> bytes:
    """A TIFF structure with a camera, an orientation, an exposure time and a place."""
    exif = Image.Exif()
    exif.endian = end
    exif[BASE.Make] = "Camera & Sons"
    exif[BASE.Orientation] = orientation
    exif.get_ifd(ExifTags.IFD.Exif)[BASE.ExposureTime] = 0.004
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    exif[ExifTags.IFD.Exif] = exif[ExifTags.IFD.GPSInfo] = 0
    return exif.tobytes().removeprefix(b"Exif\0\0")


FULL = Metadata(exif_bytes(), PROFILE, (300.0, 150.0))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    rows, columns = np.mgrid[:41, :56]
    waves = 128 + 60 * np.sin(rows / 5) + 50 * np.cos(columns / 7)
    return np.stack([waves, waves[::-1], 255 - waves], 2).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return toolkit.load("pln-fast")


def saved(pixels: np.ndarray, form: str, **settings: object) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **settings)
    return file


# -- orientation -------------------------------------------------------------------


@pytest.mark.parametrize("end", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pictures_are_read_upright(
    form: str, orientation: int, end: str, pixels: np.ndarray
) -> None:
    exif = b"Exif\0\0" + exif_bytes(orientation, end)
    file = saved(pixels, form, exif=exif)
    picture = as_picture(file)
    with Image.open(file) as opened:
        np.testing.assert_array_equal(picture.pixels, ImageOps.exif_transpose(opened))
    again = Image.Exif()
    again.load(picture.metadata.exif)
    assert again.get(BASE.Orientation, 1) == 1
    assert again[BASE.Make] == "Camera & Sons"
    assert again.get_ifd(ExifTags.IFD.Exif)[BASE.ExposureTime] == pytest.approx(0.004)
    assert again.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
    if form != "TIFF":  # which has tags of its own
        assert len(picture.metadata.exif) == len(exif) - 6
        changed = sum(a != b for a, b in zip(picture.metadata.exif, exif[6:], strict=True))
        assert changed == (orientation != 1)


def test_an_orientation_that_xmp_gives(pixels: np.ndarray) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6"/></x:xmpmeta>'
    picture = as_picture(saved(pixels, "JPEG", xmp=xmp, quality=95))
    assert picture.pixels.shape == (56, 41, 3)


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_exif_that_is_damaged_turns_nothing_or_all(cut: int, pixels: np.ndarray) -> None:
    exif = exif_bytes(6)
    for bad in (exif[:cut], exif[:cut] + b"\xff" * 8 + exif[cut + 8 :]):
        shown, kept = upright(pixels, Metadata(bad))
        assert shown.shape in (pixels.shape, (56, 41, 3))
        assert len(kept.exif) == len(bad)


def test_turning_by_an_orientation_undoes_its_inverse(pixels: np.ndarray) -> None:
    inverse = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
    for orientation, back in inverse.items():
        np.testing.assert_array_equal(turned(turned(pixels, orientation), back), pixels)


# -- .qf files ---------------------------------------------------------------------


def test_a_file_carries_all_and_the_same_picture(codec: Codec, pixels: np.ndarray) -> None:
    file = saved(pixels, "PNG", exif=FULL.exif, icc_profile=FULL.icc, dpi=FULL.resolution)
    carrying, plain = codec.encode(file, 0.5), codec.encode(pixels, 0.5)
    found, without = decode_file(carrying.data), decode_file(plain.data)
    np.testing.assert_array_equal(found.pixels, without.pixels)
    assert (found.metadata.exif, found.metadata.icc) == (FULL.exif, FULL.icc)
    assert found.metadata.resolution == pytest.approx(FULL.resolution, abs=0.02)
    assert without.metadata == NO_METADATA
    assert sum(carrying.parts.values()) == 8 * len(carrying.data)
    assert carrying.parts["metadata"] > 0
    *streams, last = read_container(carrying.data).streams
    assert tuple(streams) == read_container(plain.data).streams
    assert last.name == METADATA
    # as of version 1.1, which programs of before refuse by its number
    assert (plain.data[8:10], carrying.data[8:10]) == (bytes((1, 0)), bytes((1, 1)))


@pytest.mark.parametrize("preset", ["pln-fast", "hyperprior", "hyperprior-greedy"])
def test_alpha_and_metadata_go_together(preset: str, pixels: np.ndarray) -> None:
    alpha = np.concatenate([pixels, pixels[::-1, :, :1]], 2)
    codec = toolkit.load(preset)
    picture = replace(as_picture(alpha), metadata=FULL)
    encoded = codec.encode(picture, 0.5)
    decoded = decode_file(encoded.data)
    assert decoded.metadata == FULL
    np.testing.assert_array_equal(decoded.pixels[:, :, 3], alpha[:, :, 3])
    np.testing.assert_array_equal(decoded.pixels, encoded.reconstruction)


def test_a_budget_of_bytes_holds_metadata_too(codec: Codec, pixels: np.ndarray) -> None:
    picture = replace(as_picture(pixels), metadata=FULL)
    least = len(codec.encode(picture, 0.3).data)
    encoded = codec.encode_within(picture, 0.3, least + 100)
    assert len(encoded.data) <= least + 100
    assert decode_file(encoded.data).metadata == FULL
    with pytest.raises(UsageError):
        codec.encode_within(picture, 0.3, len(PROFILE) // 4)


def test_streams_that_nobody_knows_are_skipped(codec: Codec, pixels: np.ndarray) -> None:
    data = codec.encode(pixels, 0.5).data
    container = read_container(data)
    more = write_container(
        replace(container, streams=(Stream("+later", b"x" * 9), *container.streams))
    )
    np.testing.assert_array_equal(decode_file(more).pixels, decode_file(data).pixels)
    other = replace(container, streams=(*container.streams, Stream("later", b"x")))
    with pytest.raises(BadStream):
        decode_file(write_container(other))
    with pytest.raises(NewerVersion, match=r"1\.2.*update"):
        read_container(more[:8] + bytes((1, 2)) + more[10:])


def test_metadata_is_the_first_to_go_when_a_file_is_cut(codec: Codec, pixels: np.ndarray) -> None:
    picture = replace(as_picture(pixels), metadata=FULL)
    data = codec.encode(picture, 0.5).data
    size = len(read_container(data).stream(METADATA))
    for missing in (1, size // 2, size):
        decoded = decode_file(data[:-missing], DecodeSettings(partial=True))
        np.testing.assert_array_equal(decoded.pixels, decode_file(data).pixels)
        assert decoded.metadata == NO_METADATA


def test_damaged_streams_are_refused() -> None:
    good = pack_metadata(FULL).data
    assert unpack_metadata(good) == FULL
    rng = np.random.default_rng(0)
    for trial in range(500):
        bad = bytearray(good[: rng.integers(0, len(good))] if trial % 2 else good)
        for _ in range(3):
            if bad:
                bad[rng.integers(0, min(len(bad), 60))] = rng.integers(0, 256)
        try:
            found = unpack_metadata(bytes(bad))
        except BadStream:
            continue
        assert trial % 2 == 0
        assert len(found.exif) + len(found.icc) <= MOST_BYTES


def test_a_stream_that_inflates_without_end_is_refused() -> None:
    large = Metadata(exif=bytes(MOST_BYTES + 100))
    assert len(pack_metadata(large).data) < 20_000
    with pytest.raises(BadStream, match="too large"):
        unpack_metadata(pack_metadata(large).data)


def test_what_cannot_be_carried_is_left_out_and_said() -> None:
    assert fitting(FULL, "RGB") == (FULL, "")
    assert fitting(FULL, "RGBA") == (FULL, "")
    kept, said = fitting(FULL, "L")
    assert (kept, "colour profile" in said) == (replace(FULL, icc=b""), True)
    gray = bytearray(PROFILE)
    gray[16:20] = b"GRAY"
    assert fitting(replace(FULL, icc=bytes(gray)), "L")[1] == ""
    kept, said = fitting(Metadata(bytes(MOST_BYTES + 1)), "RGB")
    assert (kept, "16 MiB" in said) == (NO_METADATA, True)


# -- files of other formats ----------------------------------------------------------

CLASSICAL = {
    "jpeg": 90, "webp": 80, "avif": 70, "heic": 70, "jxl": 80, "jpeg2000": 20, "bpg": 20,
}  # fmt: skip
CARRIED = {
    "jpeg": {"exif", "icc", "resolution"}, "webp": {"exif", "icc"}, "avif": {"exif", "icc"},
    "heic": {"exif", "icc"}, "bpg": {"exif", "icc"}, "jpeg2000": {"exif", "resolution"},
    "jxl": {"exif"},
}  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("preset", CLASSICAL)
def test_other_formats_carry_what_they_say(preset: str, channels: int, pixels: np.ndarray) -> None:
    codec = toolkit.load(preset)
    if missing := codec.spec.missing():
        pytest.skip(str(missing))
    assert codec.carries == CARRIED[preset]
    wanted = FULL if channels == 3 else replace(FULL, icc=b"")
    picture = replace(as_picture(pixels[:, :, :channels]), metadata=wanted)
    data = codec.encode(picture, CLASSICAL[preset]).data
    decoded = codec.decode(data)
    made = {"icc"} if preset == "jxl" else set()  # its decoder makes one for what it decodes to
    assert decoded.metadata.kinds - made == wanted.kinds & codec.carries
    for kind in ("icc", "resolution"):
        if kind in decoded.metadata.kinds - made:
            expected = getattr(wanted, kind)
            assert getattr(decoded.metadata, kind) == pytest.approx(expected, abs=0.02)
    if "exif" in codec.carries:
        found = Image.Exif()
        found.load(decoded.metadata.exif)
        assert found[BASE.Make] == "Camera & Sons"
    plain = codec.encode(pixels[:, :, :channels], CLASSICAL[preset]).data
    np.testing.assert_array_equal(decoded.pixels, codec.decode(plain).pixels)
    if preset in ("jpeg", "webp", "avif"):  # as Pillow reads them
        with Image.open(io.BytesIO(data)) as opened:
            opened.load()
            assert metadata_of(opened).kinds == decoded.metadata.kinds


def test_bpg_extensions_lie_where_the_specification_says(pixels: np.ndarray) -> None:
    codec = toolkit.load("bpg")
    if missing := codec.spec.missing():
        pytest.skip(str(missing))
    picture = replace(
        as_picture(pixels), metadata=Metadata(b"II*\0abc", b"d" * 16 + b"RGB " + b"e")
    )
    data = codec.encode(picture, 30).data
    plain = codec.encode(pixels, 30).data
    assert data[5] == plain[5] | 8
    at = data.index(bytes([1, 7]) + b"II*\0abc" + bytes([2, 21]) + b"d" * 16)
    assert data[at - 1] == 2 + 7 + 2 + 21
    assert data[6 : at - 1] == plain[6 : at - 1]
    assert data[at + 32 :] == plain[at - 1 :]


def test_exif_too_long_for_a_jpeg_segment_is_left_out(pixels: np.ndarray) -> None:
    codec = toolkit.load("jpeg")
    long = FULL.exif + bytes(66_000)
    picture = replace(as_picture(pixels), metadata=replace(FULL, exif=long))
    assert codec.carried(picture) == replace(FULL, exif=b"")
    assert codec.decode(codec.encode(picture, 80).data).metadata.exif == b""
    most = replace(FULL, exif=FULL.exif + bytes(65_527 - len(FULL.exif)))
    data = codec.encode(replace(picture, metadata=most), 80).data
    assert codec.decode(data).metadata.exif == most.exif


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_several_pictures_in_a_file_are_refused(form: str, pixels: np.ndarray) -> None:
    file = io.BytesIO()
    frames = [Image.fromarray(np.roll(pixels, n, 1)) for n in range(3)]
    frames[0].save(file, form, save_all=True, append_images=frames[1:])
    with pytest.raises(toolkit.errors.InputError, match="3 frames or pages; only still"):
        as_picture(file)
    if form in ("WEBP", "AVIF"):
        with pytest.raises(BadFile, match=r"3 frames; only still|nor one of a codec"):
            decode_file(file.getvalue())


def test_of_a_jpeg_of_several_pictures_the_first_is_taken(pixels: np.ndarray) -> None:
    """As phones make them: the others are smaller, or for other screens."""
    file = io.BytesIO()
    small = Image.fromarray(pixels[::2, ::2])
    Image.fromarray(pixels).save(file, "MPO", save_all=True, append_images=[small])
    assert as_picture(file).pixels.shape == pixels.shape
    assert decode_file(file.getvalue()).pixels.shape == pixels.shape


def test_a_resolution_that_is_none_is_left_out() -> None:
    image = Image.new("L", (4, 4))
    for dpi in ((1, 1), (0, 0), (float("nan"), 72), (1e9, 72), "x", (72,), None):
        image.info["dpi"] = dpi
        assert metadata_of(image) == NO_METADATA
    image.info["dpi"] = (72, 144)
    assert metadata_of(image) == Metadata(resolution=(72.0, 144.0))


def test_gray_costs_less_than_colour(codec: Codec, pixels: np.ndarray) -> None:
    large = np.kron(pixels, np.ones((4, 4, 1), np.uint8))
    gray = np.asarray(Image.fromarray(large).convert("L"))
    assert len(codec.encode(gray, 0.5).data) < 0.95 * len(codec.encode(large, 0.5).data)
    assert codec.decode(codec.encode(gray, 0.5).data).pixels.shape == (164, 224, 1)


def test_the_packed_form() -> None:
    """Kinds 1 to 3, each with its length, and an unknown one that is skipped."""
    import zlib

    fields = (
        b"\x09\x02??" + b"\x01\x03abc" + b"\x02\x01p" + b"\x03\x05" + bytes.fromhex("e0a712f049")
    )
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    found = unpack_metadata(deflate.compress(fields) + deflate.flush())
    assert found == Metadata(b"abc", b"p", (300.0, 9.456))


@pytest.mark.parametrize("dpi", [(72.0, 72.0), (300.0, 150.0), (2400.0, 9999.0), (1.5, 50.0)])
def test_resolution_of_jpeg_2000_as_pillow_reads_it(
    dpi: tuple[float, float], pixels: np.ndarray
) -> None:
    codec = toolkit.load("jpeg2000")
    picture = replace(as_picture(pixels), metadata=Metadata(resolution=dpi))
    data = codec.encode(picture, 20).data
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.info["dpi"] == pytest.approx(dpi, rel=1e-4)
        np.testing.assert_array_equal(opened, codec.decode(codec.encode(pixels, 20).data).pixels)
