"""The PLN codec, end to end with the shipped weights."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import toolkit
from toolkit.api import decode_file
from toolkit.codec.base import Codec, DecodeSettings
from toolkit.errors import InputError, UsageError
from toolkit.format.container import BadFile, OtherModel, read_container, write_container
from toolkit.plugin.loader import load_plugins
from toolkit.sampling.contract import kl_bits
from toolkit.sampling.ladder import theoretical_bits
from toolkit_evaluation.data.datasets import sample_paths
from toolkit_plugins.pln.model import PLN

Pixels = NDArray[np.uint8]
FOLDER = load_plugins().entropy_model("pln").weights_folder


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> Pixels:
    """Smooth colours with some edges: compressible, and not the same at every pixel."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 40
    planes = [np.sin(x * a + y * b + c) for a, b, c in rng.uniform(-2, 2, (channels, 3))]
    image = 128 + 80 * np.stack(planes, 2) + 30 * ((x + y) % 1 > 0.5)[:, :, None]
    return np.clip(image, 0, 255).astype(np.uint8)


def photograph() -> Pixels:
    """256x256 of a photograph that ships inside scikit-image."""
    path = next(p for p in sample_paths() if p.stem == "astronaut")
    return np.ascontiguousarray(np.asarray(Image.open(path))[:256, 100:356])


def psnr(a: Pixels, b: Pixels) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


@pytest.fixture(scope="module")
def codec() -> Codec:
    return toolkit.load("pln-isgs")


# -- files ------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (17, 31), (64, 64), (129, 255)])
def test_any_size_and_mode_round_trips(codec: Codec, size: tuple[int, int], channels: int) -> None:
    pixels = picture(*size, channels)
    encoded = codec.encode(pixels, 0.5)
    decoded = toolkit.decode(encoded.data)
    assert decoded.shape == pixels.shape
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, encoded.reconstruction)
    if channels == 4:
        np.testing.assert_array_equal(decoded[:, :, 3], pixels[:, :, 3])


def test_the_parts_add_up_to_the_file_and_the_overhead_is_small(codec: Codec) -> None:
    encoded = codec.encode(picture(512, 768), 0.5)
    assert sum(encoded.parts.values()) == 8 * len(encoded.data)
    container = read_container(encoded.data)
    assert len(encoded.data) - sum(len(s.data) for s in container.streams) <= 64


def test_more_rate_buys_more_quality(codec: Codec) -> None:
    pixels = photograph()
    sizes, qualities = [], []
    for rate in (0.0, 0.35, 0.7, 1.0):
        encoded = codec.encode(pixels, rate)
        assert encoded.reconstruction is not None
        sizes.append(len(encoded.data))
        qualities.append(psnr(pixels, encoded.reconstruction))
    assert sizes == sorted(sizes)
    assert qualities == sorted(qualities)
    assert sizes[-1] > 1.5 * sizes[0]


def test_the_theoretical_point_is_near_and_better(codec: Codec) -> None:
    pixels = photograph()
    encoded, bound = codec.encode(pixels, 0.5), codec.theoretical(pixels, 0.5)
    assert bound is not None
    assert bound.bits < 8 * len(encoded.data) < 1.25 * bound.bits
    assert encoded.reconstruction is not None
    assert psnr(pixels, bound.pixels) > psnr(pixels, encoded.reconstruction) - 0.2


def test_theoretical_bits_are_the_thesis_formula(codec: Codec) -> None:
    targets, _ = codec._sampled(picture(64, 64), 0.5)  # type: ignore[attr-defined]
    total = sum(float(kl_bits(t.d, t.r).sum()) for t in targets)
    assert theoretical_bits(targets) == pytest.approx(total + 2 * np.log2(total + 1))


def test_the_reconstruction_is_made_when_asked_for_and_goes_along(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[None] = []
    reconstruct = PLN.reconstruct

    def counted(self: PLN, *arguments: Any) -> torch.Tensor:
        made.append(None)
        return reconstruct(self, *arguments)

    monkeypatch.setattr(PLN, "reconstruct", counted)
    encoded = codec.encode(picture(64, 96), 0.5)
    assert not made
    copy = pickle.loads(pickle.dumps(encoded))
    assert copy.data == encoded.data
    np.testing.assert_array_equal(copy.reconstruction, encoded.reconstruction)
    assert len(made) == 1


def test_weights_that_make_no_numbers_make_no_file(tmp_path: Path) -> None:
    tensors = load_file(FOLDER / "pln.safetensors")
    with safe_open(FOLDER / "pln.safetensors", "pt") as opened:
        metadata = opened.metadata()
    tensors["synthesis2.heads.mean.bias"][3] = torch.nan
    save_file(tensors, tmp_path / "broken.safetensors", metadata)
    broken = toolkit.load("pln", {"weights": str(tmp_path / "broken.safetensors")})
    with pytest.raises(InputError, match="can't code this picture"):
        broken.encode(picture(64, 64), 0.5)


def test_another_process_decodes_the_very_pixels(codec: Codec, tmp_path: Path) -> None:
    pixels = picture(150, 200)
    encoded = codec.encode(pixels, 0.6)
    (tmp_path / "x.qf").write_bytes(encoded.data)
    code = (
        "import sys, numpy, toolkit\n"
        f"data = open({str(tmp_path / 'x.qf')!r}, 'rb').read()\n"
        f"numpy.save({str(tmp_path / 'x.npy')!r}, toolkit.decode(data))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), encoded.reconstruction)


@pytest.mark.parametrize(
    ("precision", "threads", "tolerance"),
    [("float32", 1, 0.01), ("float64", 1, 0.01), ("bfloat16", 1, 0.1)],
)
def test_other_arithmetic_decodes_to_the_same_quality(
    codec: Codec, precision: str, threads: int, tolerance: float
) -> None:
    pixels = picture(256, 320)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        encoded = codec.encode(pixels, 0.8)
        torch.set_num_threads(threads)
        decoded = decode_file(encoded.data, DecodeSettings(precision)).pixels  # type: ignore[arg-type]
    finally:
        torch.set_num_threads(before)
    assert encoded.reconstruction is not None
    loss = psnr(pixels, encoded.reconstruction) - psnr(pixels, decoded)
    assert abs(loss) <= tolerance


def test_encoding_repeats_and_depends_on_the_seed(codec: Codec) -> None:
    pixels = picture(96, 96)
    again = toolkit.load("pln-isgs").encode(pixels, 0.5).data
    other = toolkit.load("pln-isgs", {"seed": 1}).encode(pixels, 0.5).data
    assert codec.encode(pixels, 0.5).data == again != other
    assert toolkit.decode(other).shape == pixels.shape


def test_a_file_of_other_weights_says_so(codec: Codec, tmp_path: Path) -> None:
    encoded = codec.encode(picture(32, 32), 0.5)
    container = read_container(encoded.data)
    stranger = write_container(
        type(container)(**{**vars_of(container), "fingerprint": b"\x01" * 8})
    )
    with pytest.raises(OtherModel, match=r"0101010101010101.*--weights"):
        toolkit.decode(stranger)
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes((FOLDER / "pln.safetensors").read_bytes())
    settings = DecodeSettings(weights=copy)
    np.testing.assert_array_equal(
        decode_file(encoded.data, settings).pixels, encoded.reconstruction
    )


def vars_of(container: object) -> dict[str, object]:
    return {name: getattr(container, name) for name in container.__dataclass_fields__}  # type: ignore[attr-defined]


def test_damage_behind_valid_checksums_is_an_image_or_a_named_error(codec: Codec) -> None:
    encoded = codec.encode(picture(64, 96), 0.3)
    container = read_container(encoded.data)
    rng = np.random.default_rng(5)
    outcomes = set()
    for _ in range(60):
        streams = list(container.streams)
        which = rng.integers(len(streams))
        data = bytearray(streams[which].data)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] = rng.integers(256)
        if rng.random() < 0.3:
            data = data[: rng.integers(len(data))]
        streams[which] = type(streams[which])(streams[which].name, bytes(data))
        damaged = write_container(
            type(container)(**{**vars_of(container), "streams": tuple(streams)})
        )
        try:
            pixels = toolkit.decode(damaged)
            assert pixels.shape == (64, 96, 3)
            outcomes.add("image")
        except BadFile:
            outcomes.add("error")
    assert outcomes == {"image", "error"}


@pytest.mark.parametrize("channels", [3, 4])
def test_a_file_size_is_hit_from_below(channels: int) -> None:
    codec = toolkit.load("pln-fast")
    pixels = picture(128, 160, channels)
    natural = len(codec.encode(pixels, 0.5).data)
    for size in (natural - 7, natural, natural + 40):
        encoded = codec.encode_within(pixels, 0.5, size)
        assert size - 1 <= len(encoded.data) <= size
        np.testing.assert_array_equal(toolkit.decode(encoded.data), encoded.reconstruction)
        assert sum(encoded.parts.values()) == 8 * len(encoded.data)
    with pytest.raises(UsageError):
        codec.encode_within(pixels, 0.5, 70)
