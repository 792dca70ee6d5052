"""Pictures of 16 bits a sample: refused, or with ``depth=8`` rounded, without dithering."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from deep_pictures import png16, tiff16
from PIL import Image

from toolkit.codec.picture import as_picture
from toolkit.errors import InputError

SAMPLES = np.random.default_rng(0).integers(0, 65536, (7, 5, 4)).astype(np.uint16)
SAMPLES[0] = [0, 127, 128, 129]  # 128.5 would be halfway between 0 and 1
SAMPLES[1] = [256, 385, 386, 65535]


def rounded(samples: np.ndarray) -> np.ndarray:
    """The nearest of 0 to 255."""
    return np.rint(samples.astype(np.float64) * 255 / 65535).astype(np.uint8)


def wanted(channels: int) -> np.ndarray:
    eight = rounded(SAMPLES[:, :, :channels])
    return eight[:, :, (0, 0, 0, 1)] if channels == 2 else eight


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png(channels: int, tmp_path: Path) -> None:
    path = png16(tmp_path / "a.png", SAMPLES[:, :, :channels])
    np.testing.assert_array_equal(as_picture(path, depth=8).pixels, wanted(channels))
    with open(path, "rb") as file:
        np.testing.assert_array_equal(as_picture(file, depth=8).pixels, wanted(channels))
    with pytest.raises(InputError, match="--depth 8 rounds"):
        as_picture(path)


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("end", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiff(channels: int, end: str, deflated: bool, tmp_path: Path) -> None:
    path = tiff16(tmp_path / "a.tif", SAMPLES[:, :, :channels], end, deflated)
    np.testing.assert_array_equal(as_picture(path, depth=8).pixels, wanted(channels))
    with pytest.raises(InputError, match="--depth 8 rounds"):
        as_picture(path)


@pytest.mark.parametrize(("magic", "channels"), [(b"P5", 1), (b"P6", 3)])
def test_pnm(magic: bytes, channels: int, tmp_path: Path) -> None:
    path = tmp_path / "a.ppm"
    samples = SAMPLES[:, :, :channels]
    path.write_bytes(magic + b"\n5 7\n65535\n" + samples.astype(">u2").tobytes())
    np.testing.assert_array_equal(as_picture(path, depth=8).pixels, wanted(channels))


def test_images_of_pillow() -> None:
    image = Image.fromarray(SAMPLES[:, :, 0])
    assert image.mode == "I;16"
    np.testing.assert_array_equal(as_picture(image, depth=8).pixels, wanted(1))
    large = Image.fromarray(SAMPLES[:, :, 0].astype(np.int32) * 2)
    with pytest.raises(InputError, match="more than 16 bits"):
        as_picture(large, depth=8)
    with pytest.raises(InputError, match="mode F isn't supported"):
        as_picture(Image.new("F", (4, 4)), depth=8)


def test_8_bits_stay_as_they_are(tmp_path: Path) -> None:
    pixels = (SAMPLES[:, :, :3] >> 8).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    np.testing.assert_array_equal(as_picture(file, depth=8).pixels, pixels)


def test_sgi_is_refused_either_way(tmp_path: Path) -> None:
    image = Image.fromarray((SAMPLES[:, :, :3] >> 8).astype(np.uint8))
    image.save(tmp_path / "a.sgi", bpc=2)
    with pytest.raises(InputError, match="more than 8 bits"):
        as_picture(tmp_path / "a.sgi")
    with pytest.raises(InputError, match="16 bits a sample in an SGI file"):
        as_picture(tmp_path / "a.sgi", depth=8)
