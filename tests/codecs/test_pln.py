"""The PLN codec, end to end with the shipped weights, and the mathematics under it."""

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
from toolkit.entropy_model.base import Gaussian, Level, Size, product_of_gaussians
from toolkit.entropy_model.base import kl_bits as kl_bits_of_logs
from toolkit.errors import InputError, UsageError
from toolkit.format.container import BadFile, OtherModel, read_container, write_container
from toolkit.plugin.loader import load_plugins
from toolkit.sampling.contract import kl_bits
from toolkit.sampling.ladder import theoretical_bits
from toolkit_evaluation.data.datasets import sample_paths
from toolkit_plugins.networks.layers import GDN, InverseGDN, Normalization, interpolation_weights
from toolkit_plugins.pln.model import PLN, PLNOptions

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


# -- mathematics ------------------------------------------------------------------


def test_the_posterior_is_the_precision_weighted_product() -> None:
    rng = np.random.default_rng(0)
    mu_x, mu_p = rng.normal(0, 3, (2, 100))
    log_s_x, log_s_p = rng.normal(0, 1.5, (2, 100))
    encoder, prior = (
        Gaussian(torch.from_numpy(mean), torch.from_numpy(log_scale))
        for mean, log_scale in ((mu_x, log_s_x), (mu_p, log_s_p))
    )
    d, log_r = product_of_gaussians(encoder, prior)
    s_x, s_p = np.exp(log_s_x), np.exp(log_s_p)
    variance = 1 / (s_x**-2 + s_p**-2)
    mean = (mu_x * s_x**-2 + mu_p * s_p**-2) * variance
    np.testing.assert_allclose(d, (mean - mu_p) / s_p, rtol=1e-9)
    np.testing.assert_allclose(np.exp(log_r), np.sqrt(variance) / s_p, rtol=1e-9)
    assert float(log_r.max()) < 0


@pytest.mark.parametrize("linear", [False, True])
def test_sorting_the_channels_and_changes_nothing_else(linear: bool) -> None:
    torch.manual_seed(3)
    options = PLNOptions(
        widths=(4, 5, 6),
        level1_channels=7,
        level2_width=5,
        level2_channels=6,
        knots=3,
        linear=linear,
    )
    model = PLN(options)
    if linear:
        torch.nn.init.normal_(model.synthesis1.linear.gain.log_gain)
    x, rate = torch.rand(2, 3, 128, 96), torch.tensor([0.5, 0.5])

    def means() -> tuple[torch.Tensor, ...]:
        bits: list[torch.Tensor] = []

        def at_mean(index: int, level: Level) -> torch.Tensor:
            assert level.posterior is not None
            bits.append(level.kl_bits().mean((0, 2, 3)))
            return level.posterior.mean

        image = model.walk(Size(2, 128, 96), rate, model.analyse(x, rate), at_mean)
        return image, *bits

    with torch.no_grad():
        image, *bits = means()
        model.sort_channels(x)
        same_image, *sorted_bits = means()
    torch.testing.assert_close(same_image, image, rtol=1e-4, atol=1e-5)
    for before, after in zip(bits, sorted_bits, strict=True):
        assert before.tolist() != after.tolist()
        torch.testing.assert_close(before.sort(descending=True).values, after, rtol=1e-4, atol=1e-5)


def test_a_sharp_encoder_decides() -> None:
    one = torch.tensor([1.0])
    d, log_r = product_of_gaussians(Gaussian(5 * one, -6 * one), Gaussian(-2 * one, 0 * one))
    assert float(d) == pytest.approx(7, rel=1e-4)
    assert float(torch.exp(log_r)) == pytest.approx(np.exp(-6), rel=1e-4)


def test_both_forms_of_the_kl_agree_with_the_integral() -> None:
    for d, r in [(0.0, 1.0), (0.7, 0.3), (-2.0, 0.05), (3.0, 0.9)]:
        x = np.linspace(d - 9 * r, d + 9 * r, 20001)
        log_q = -0.5 * ((x - d) / r) ** 2 - np.log(r * np.sqrt(2 * np.pi))
        log_p = -0.5 * x**2 - np.log(np.sqrt(2 * np.pi))
        bits = float(np.sum(np.exp(log_q) * (log_q - log_p)) * (x[1] - x[0]) / np.log(2))
        arrays = np.float32([[[d]]]), np.float32([[[r]]])
        assert float(kl_bits(*arrays).sum()) == pytest.approx(bits, abs=1e-4)
        logs = torch.tensor(d), torch.tensor(r).log()
        assert float(kl_bits_of_logs(*logs)) == pytest.approx(bits, abs=1e-4)


def compressais(ours: Normalization, inverse: bool) -> torch.nn.Module:
    """CompressAI's layer of the parameters of ours, which are drawn."""
    upstream = pytest.importorskip("toolkit_plugins.compressai.upstream")
    theirs: torch.nn.Module = upstream.compressai().layers.GDN(8, inverse=inverse)
    torch.manual_seed(0)
    with torch.no_grad():
        ours.root_gamma.copy_(torch.rand(8, 8))
        ours.root_beta.copy_(1 + torch.rand(8))
        theirs.gamma.copy_(theirs.gamma_reparam.init(ours.root_gamma**2))
        theirs.beta.copy_(theirs.beta_reparam.init(ours.root_beta**2))
    return theirs


def test_gdn_is_compressais() -> None:
    ours = GDN(8)
    theirs = compressais(ours, False)
    x = torch.randn(2, 8, 5, 7)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_inverse_gdn_is_compressais_shuffled_and_mirrored() -> None:
    ours = InverseGDN(8)
    theirs = compressais(ours, True)
    phases, gain = torch.randn(2, 4, 8, 5, 7, requires_grad=True), torch.rand(2, 8) + 0.5
    gain.requires_grad_(True)
    shuffled = torch.nn.functional.pixel_shuffle(phases.transpose(1, 2).flatten(1, 2), 2)
    expected = theirs(shuffled) * gain[:, :, None, None]
    expected = torch.nn.functional.pad(expected, (1, 1, 1, 1), mode="reflect")
    shown = ours(phases.flatten(1, 2), gain)
    torch.testing.assert_close(shown, expected, rtol=1e-4, atol=1e-5)
    weight = torch.randn_like(shown)
    moved = [phases, gain]
    torch.testing.assert_close(
        torch.autograd.grad((shown * weight).sum(), moved),
        torch.autograd.grad((expected * weight).sum(), moved),
        rtol=1e-4,
        atol=1e-4,
    )


def test_inverse_gdn_knows_its_gradients() -> None:
    torch.manual_seed(0)
    layer = InverseGDN(3).double()
    phases, gain = torch.randn(2, 12, 3, 2).double(), torch.rand(2, 3).double() + 0.5
    names = [name for name, _ in layer.named_parameters()]

    def function(x: torch.Tensor, gain: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        named = dict(zip(names, parameters, strict=True))
        shown: torch.Tensor = torch.func.functional_call(layer, named, (x, gain))
        return shown

    inputs = [phases, gain, *(torch.rand_like(p) + 0.3 for p in layer.parameters())]
    assert torch.autograd.gradcheck(function, [t.requires_grad_(True) for t in inputs])


def test_rates_are_interpolated_between_knots() -> None:
    weights = interpolation_weights(torch.tensor([0.0, 0.5, 1.0, 0.3]), 5)
    torch.testing.assert_close(weights.sum(1), torch.ones(4))
    torch.testing.assert_close(weights @ torch.linspace(0, 1, 5), torch.tensor([0, 0.5, 1, 0.3]))


def test_training_pass_bits_are_the_kl_of_each_image() -> None:
    torch.manual_seed(0)
    model = PLN(PLNOptions(widths=(4, 4, 4), level1_channels=4, level2_width=4, level2_channels=2))
    result = model.training_pass(torch.rand(3, 3, 96, 128), torch.tensor([0.0, 0.5, 1.0]))
    assert result.x_hat.shape == (3, 3, 96, 128)
    assert set(result.bits) == {"level1", "level2"}
    assert all(b.shape == (3,) and bool((b > 0).all()) for b in result.bits.values())


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
