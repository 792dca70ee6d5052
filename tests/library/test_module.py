"""``load_model``: a ladder model as a module with CompressAI's interface."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from random_models import picture

import toolkit
from toolkit.entropy_model.module import LadderModule
from toolkit.errors import MissingError, UnknownName, UsageError
from toolkit.format.errors import BadStream
from toolkit_plugins.compressai.upstream import submodule

FAST = {"levels.default.nu": 8, "refinement_steps": 0}


@pytest.fixture(scope="module")
def model() -> LadderModule:
    return toolkit.load_model("pln", rate=0.3, options=FAST)


def images(count: int, height: int, width: int) -> torch.Tensor:
    pictures = np.stack([picture(height, width, seed) for seed in range(count)])
    return torch.from_numpy(pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255)


def psnr(x: torch.Tensor, y: torch.Tensor) -> float:
    return -10 * math.log10(float((x - y).square().mean()))


def bytes_of(coded: dict[str, list[list[bytes]]]) -> int:
    return sum(len(data) for level in coded["strings"] for data in level)


@pytest.mark.parametrize("size", [(1, 1), (5, 70), (96, 128), (100, 33)], ids=str)
def test_images_of_any_size_in_batches(model: LadderModule, size: tuple[int, int]) -> None:
    x = images(2, *size)
    with torch.no_grad():
        out = model(x)
    assert out["x_hat"].shape == x.shape
    assert set(out["bits"]) == {"level1", "level2"}
    assert all(bits.shape == (2,) for bits in out["bits"].values())
    coded = model.compress(x)
    assert [len(level) for level in coded["strings"]] == [2, 2]
    x_hat = model.decompress(coded["strings"], coded["shape"])["x_hat"]
    assert x_hat.shape == x.shape
    assert 0 <= float(x_hat.min()) <= float(x_hat.max()) <= 1


def test_likelihoods_add_up_to_the_bits_and_those_to_the_strings(model: LadderModule) -> None:
    x = images(2, 128, 192)
    with torch.no_grad():
        out = model(x)
    for name, bits in out["bits"].items():
        summed = -torch.log2(out["likelihoods"][name]).sum((1, 2, 3))
        torch.testing.assert_close(summed, bits, rtol=2e-3, atol=1.0)
    coded = model.compress(x)
    kl = float(sum(bits.sum() for bits in out["bits"].values()))
    assert 0.95 < 8 * bytes_of(coded) / kl < 1.2
    x_hat = model.decompress(**coded)["x_hat"]
    assert abs(psnr(x, x_hat) - psnr(x, out["x_hat"])) < 0.7


def test_it_codes_as_the_codec_does(model: LadderModule) -> None:
    pixels = picture(128, 192, 0)
    encoded = toolkit.load("pln", FAST).encode(pixels, 0.3)
    streams = sum(bits for name, bits in encoded.parts.items() if name != "header") / 8
    coded = model.compress(images(1, 128, 192))
    assert abs(bytes_of(coded) / streams - 1) < 0.06  # the codec may analyse in bfloat16
    x, x_hat = images(1, 128, 192), model.decompress(**coded)["x_hat"]
    theirs = torch.from_numpy(toolkit.decode(encoded.data).transpose(2, 0, 1)[None] / 255.0)
    assert abs(psnr(x_hat, x) - psnr(theirs, x)) < 0.5  # one sample each


def test_rates_by_attribute_argument_and_image(model: LadderModule) -> None:
    x = images(2, 64, 96)
    low, high = (bytes_of(model.compress(x, rate)) for rate in (0.0, 1.0))
    assert high > 2 * low
    coded = model.compress(x, torch.tensor([0.0, 1.0]))
    first, second = (sum(len(level[i]) for level in coded["strings"]) for i in (0, 1))
    assert second > 2 * first
    model.rate = 0.9  # of no concern to strings, which say theirs
    try:
        x_hat = model.decompress(**coded)["x_hat"]
    finally:
        model.rate = 0.3
    assert psnr(x[1], x_hat[1]) > psnr(x[0], x_hat[0]) + 1
    for wrong in (1.5, -0.1, torch.tensor([0.1, 0.2, 0.3])):
        with pytest.raises(UsageError, match="rate"):
            model.compress(x, wrong)


def test_another_precision_decodes_the_same_strings(model: LadderModule) -> None:
    coded = model.compress(images(1, 64, 64))
    there = toolkit.load_model("pln", rate=0.3, options=FAST).double()
    x_hat = there.decompress(**coded)["x_hat"]
    assert psnr(x_hat, model.decompress(**coded)["x_hat"]) > 55


def test_strings_that_are_none(model: LadderModule) -> None:
    coded = model.compress(images(1, 32, 32))
    strings, shape = coded["strings"], coded["shape"]
    for wrong in (strings[:1], [[], strings[1]], [[b"\0"], strings[1]], [[b"\0\0xx"], [b""]]):
        with pytest.raises(BadStream):
            model.decompress(wrong, shape)


def test_trained_weights_are_saved_for_codecs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = toolkit.load_model("pln", options=FAST)
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), 1e-4)
    x = images(1, 64, 64)
    before = toolkit.load_model("pln", options=FAST).state_dict()
    out = model(x, 0.3)
    (sum(out["bits"].values()).sum() / x.numel() + (out["x_hat"] - x).square().sum()).backward()
    optimiser.step()
    path = tmp_path / "mine.safetensors"
    model.save(path)
    again = toolkit.load_model(path, options=FAST).state_dict()
    key = "model." + next(name for name, _ in model.model.named_parameters())
    assert not torch.equal(again[key], before[key])
    codec = toolkit.load("pln", {**FAST, "weights": str(path)})
    data = codec.encode(picture(64, 64), 0.3).data
    assert toolkit.load("pln", {"weights": str(path)}).decode(data).pixels.shape == (64, 64, 3)


def test_a_module_has_weights_of_its_own() -> None:
    one, other = (toolkit.load_model("pln", options=FAST) for _ in range(2))
    with torch.no_grad():
        next(one.parameters()).zero_()
    assert float(next(other.parameters()).detach().abs().sum()) > 0


def test_devices_are_those_of_codecs() -> None:
    """``auto`` is a GPU where there is one, and what it codes is decoded on the processor."""
    there = toolkit.load_model("pln", rate=0.3, options=FAST, device="auto")
    coded = there.compress(images(1, 32, 48).to(next(there.parameters()).device))
    here = toolkit.load_model("pln", rate=0.3, options=FAST)
    x_hat, again = (model.decompress(**coded)["x_hat"].cpu() for model in (there, here))
    assert torch.equal(x_hat, again) or psnr(x_hat, again) > 55
    with pytest.raises(UsageError, match="one of auto, cpu"):
        toolkit.load_model("pln", device="tpu")


def test_names_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="nearest: pln"):
        toolkit.load_model("pnl")
    with pytest.raises(UsageError, match="sends no samples"):
        toolkit.load_model("jpeg")
    with pytest.raises(MissingError):
        toolkit.load_model(tmp_path / "none.safetensors")


# -- CompressAI's own evaluation code ----------------------------------------------------------


def test_compressai_evaluates_it_unchanged(model: LadderModule, tmp_path: Path) -> None:
    evaluation = submodule("utils.eval_model.__main__")
    (tmp_path / "out").mkdir()
    threads = torch.get_num_threads()
    for seed in range(2):
        Image.fromarray(picture(192, 256, seed)).save(tmp_path / f"{seed}.png")
    files = evaluation.collect_images(str(tmp_path))
    settings = {"architecture": "pln", "half": False, "per_image": True}
    results = [
        evaluation.eval_model(
            model, tmp_path / "out", tmp_path, files, entropy_estimation=estimated,
            trained_net="pln", **settings,
        )
        for estimated in (False, True)
    ]  # fmt: skip
    torch.set_num_threads(threads)  # which importing it sets to 1
    coded, estimated = results
    assert abs(coded["bpp"] / estimated["bpp"] - 1) < 0.2
    assert abs(coded["psnr-rgb"] - estimated["psnr-rgb"]) < 1
    assert coded["psnr-rgb"] > 20
    assert len(list((tmp_path / "out").rglob("*.json"))) == 2
