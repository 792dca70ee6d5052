"""What every codec does with pictures that it doesn't take: a clear refusal, nothing silent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from deep_pictures import png16
from PIL import Image
from random_models import picture

from toolkit.api import decode_file
from toolkit.codec.base import Codec, as_pixels
from toolkit.errors import InputError
from toolkit.plugin.loader import load_plugins
from toolkit.plugin.presets import load_registry, open_codec

PLUGINS = load_plugins()
SPECS = [spec for spec in PLUGINS.codecs.values() if not spec.missing()]


@pytest.fixture(params=SPECS, ids=lambda spec: spec.name)
def codec(request: pytest.FixtureRequest) -> Codec:
    spec = request.param
    found: Codec = spec.loaded(spec, spec.loaded.options_class(), PLUGINS)
    return found


SAMPLES = np.random.default_rng(0).integers(0, 65536, (6, 5, 4))


def test_cmyk_and_more_bits_are_refused(codec: Codec, tmp_path: Path) -> None:
    point = codec.spec.rate_parameter.high
    Image.new("CMYK", (8, 8)).save(tmp_path / "cmyk.jpg")
    images = (Image.new("CMYK", (8, 8)), Image.new("I;16", (8, 8)), Image.new("F", (8, 8)))
    for image in (*images, tmp_path / "cmyk.jpg"):
        with pytest.raises(InputError, match=r"mode .* isn't supported: convert"):
            codec.encode(image, point)
    with pytest.raises(InputError, match="must be uint8, not uint16"):
        codec.encode(np.zeros((8, 8, 3), np.uint16), point)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="more than 8 bits"):
        codec.encode(png16(tmp_path / "deep.png", SAMPLES[:, :, :3]), point)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (17, 31), (513, 511)])
@pytest.mark.parametrize("name", ["pln-fast", "pln-isgs", "pln-rejection"])
def test_pln_with_the_weights_that_ship(name: str, size: tuple[int, int], channels: int) -> None:
    """Other codecs' tests have these sizes and modes: classical, compressai."""
    registry = load_registry(PLUGINS, Path(__file__).parents[2] / "registry.yaml")
    codec = open_codec(PLUGINS, registry.preset(name))
    pixels = picture(*size, channels=channels)
    encoded = codec.encode(pixels, 0.4)
    shown = decode_file(encoded.data).pixels
    np.testing.assert_array_equal(shown, encoded.reconstruction)
    assert shown.shape == pixels.shape


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_files_are_refused(channels: int, tmp_path: Path) -> None:
    """Pillow reads those in colour as 8 bits, and says nothing."""
    with pytest.raises(InputError, match="8"):
        as_pixels(png16(tmp_path / "deep.png", SAMPLES[:, :, :channels]))


@pytest.mark.parametrize(("magic", "channels"), [(b"P5", 1), (b"P6", 3)])
def test_16_bit_pnm_files_are_refused(magic: bytes, channels: int, tmp_path: Path) -> None:
    path = tmp_path / "deep.ppm"
    samples = SAMPLES[:, :, :channels]
    path.write_bytes(magic + b"\n5 6\n65535\n" + samples.astype(">u2").tobytes())
    with pytest.raises(InputError, match="8"):
        as_pixels(path)
    path.write_bytes(magic + b"\n5 6\n255\n" + (samples >> 8).astype(np.uint8).tobytes())
    np.testing.assert_array_equal(as_pixels(path), samples >> 8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif", "webp", "ppm"])
def test_8_bit_files_are_read_as_they_are(suffix: str, tmp_path: Path) -> None:
    pixels = (SAMPLES[:, :, :3] >> 8).astype(np.uint8)
    pixels[1:] = pixels[0]  # few colours, for GIF
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(as_pixels(path), pixels)
