"""The command line: encode, decode, info; bad input is one clear line and a documented status."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., tuple[int, str, str]]
GOLDEN = Path(__file__).parents[1] / "golden"

SAMPLER = '''
"""A sampler in one file: the best of 16 draws for each latent, by itself."""

import numpy as np

from toolkit import hookimpl
from toolkit.sampling.contract import CodedSample, Sampler
from toolkit.plugin.specs import SamplerSpec


@hookimpl
def toolkit_samplers():
    yield SamplerSpec("best16", "best of 16 draws", f"{__name__}:Best16", tag="b16")


class Best16(Sampler):
    def encode(self, d, r, random):
        draws = random.normals(0, np.arange(16), d.size)
        weight = 0.5 * draws**2 - 0.5 * ((draws - d.ravel()) / r.ravel()) ** 2
        data = weight.argmax(axis=0).astype(np.uint8).tobytes()
        return CodedSample(data, self.decode(data, d.shape, random))

    def decode(self, data, shape, random):
        draws = random.normals(0, np.arange(16), int(np.prod(shape)))
        index = np.frombuffer(data, np.uint8) % 16
        return draws[index, np.arange(index.size)].reshape(shape)
'''


def test_info_of_a_file_with_alpha(run: Run) -> None:
    for folder, name in (("pln", "trellis-RGBA-64x64"), ("vae", "isgs-RGBA-64x64")):
        status, out, _ = run("info", GOLDEN / folder / f"{name}.qf", "--json")
        told = json.loads(out)
        assert status == 0
        assert told["level1"]["bytes"] > 0
        assert "note" not in told


@pytest.mark.parametrize("codec", ["pln-isgs", "jpeg"])
def test_encode_decode_info(run: Run, photo: Path, tmp_path: Path, codec: str) -> None:
    coded, shown = tmp_path / "coded", tmp_path / "shown.png"
    status, out, _ = run("encode", photo, coded, "--codec", codec, "--json")
    assert status == 0
    told = json.loads(out)
    assert told["bytes"] == coded.stat().st_size
    assert told["bpp"] == pytest.approx(8 * told["bytes"] / (100 * 80))
    status, out, _ = run("decode", coded, shown)
    assert (status, out.strip()) == (0, f"{shown}: 100x80 RGB")
    assert Image.open(shown).size == (100, 80)
    if codec == "pln-isgs":
        status, out, _ = run("info", coded, "--json")
        told = json.loads(out)
        assert status == 0
        assert told["codec"] == "pln"
        assert told["level1"]["sampler"] == "greedy"
        assert told["installed weights"] == "pln"
        assert sum(s["bytes"] for s in told["streams"]) + told["header_bytes"] == told["bytes"]
        assert run("info", coded)[1].count("sampler") == 2


def test_a_sampler_in_a_single_file_works_anywhere_in_the_line(
    run: Run, photo: Path, tmp_path: Path
) -> None:
    plugin, coded = tmp_path / "best16.py", tmp_path / "photo.qf"
    plugin.write_text(SAMPLER)
    choice = "levels.level1={sampler: best16}"
    status, _, err = run("encode", photo, coded, "-o", choice, "--plugin", plugin)
    assert (status, err) == (0, "")
    assert run("--plugin", plugin, "decode", coded, tmp_path / "a.png")[0] == 0
    status, _, err = run("decode", coded, tmp_path / "b.png")
    assert status == 4
    assert "sampler that isn't installed: no sampler 'b16'" in err


def damaged(data: bytes, how: str) -> bytes:
    if how == "truncated":
        return data[: len(data) // 2]
    if how == "bit flipped":
        return data[:-9] + bytes([data[-9] ^ 4]) + data[-8:]
    if how == "trailing":
        return data + b"more"
    return {"text": b"this is no image, but a text\n", "empty": b""}[how]


@pytest.mark.parametrize("how", ["text", "empty", "truncated", "bit flipped", "trailing"])
def test_bad_files_are_refused_in_one_line(run: Run, photo: Path, tmp_path: Path, how: str) -> None:
    coded, bad, out = tmp_path / "photo.qf", tmp_path / "bad.qf", tmp_path / "out.png"
    assert run("encode", photo, coded)[0] == 0
    bad.write_bytes(damaged(coded.read_bytes(), how))
    before = sorted(tmp_path.iterdir())
    for command in (["decode", bad, out], ["info", bad]):
        status, _, err = run(*command)
        assert status == 3
        assert err.startswith("toolkit: ")
        assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["encode", "{none}", "{out}"], 3, "no such file"),
        (["encode", "{empty}", "{out}"], 3, "not an image that can be read"),
        (["encode", "{text}", "{out}"], 3, "not an image that can be read"),
        (["encode", "{photo}", "{out}", "--codec", "pln-isg"], 2, "nearest: pln-isgs"),
        (["encode", "{photo}", "{out}", "-o", "levels.level1.nu=99"], 2, "level1"),
        (["encode", "{photo}", "{out}", "-o", "levels.level1.scal=9"], 2, "nearest: scale"),
        (["encode", "{photo}", "{out}", "-o", "seed"], 2, "key.path=value"),
        (["encode", "{photo}", "{out}", "-o", "jpeg:quality=3"], 2, "isn't among"),
        (["encode", "{photo}", "{out}", "--point", "1.5"], 2, "rate must be 0 to 1"),
        (["encode", "{photo}", "{none}/deep.qf"], 3, "can't write there"),
        (["encode", "{photo}", "{out}", "-o", "weights=other"], 4, "shipped: gamma-pln, pln"),
        (["decode", "{none}", "{out}.png"], 3, ""),
        (["decode", "{coded}", "{out}.xyz"], 2, "no picture format"),
        (
            ["decode", "{coded}", "{out}.png", "--weights", "{none}"],
            4,
            "no such weights file",
        ),
        (["decode", "{coded}", "{out}.png", "--weights", "{text}"], 3, "not a weights file"),
        (["presets", "--registry", "{none}"], 4, "no such registry file"),
        (["plugins", "--plugin", "{none}"], 4, "no such plugin file"),
        (["train", "{none}", "--out", "{out}"], 3, "none"),
    ],
)
def test_mistakes_are_one_line_and_a_documented_status(
    run: Run, photo: Path, tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    coded = tmp_path / "coded.qf"
    assert run("encode", photo, coded)[0] == 0
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("words")
    names = {
        "photo": photo, "coded": coded, "out": tmp_path / "out", "none": tmp_path / "none",
        "empty": tmp_path / "empty.png", "text": tmp_path / "text.png",
    }  # fmt: skip
    before = sorted(tmp_path.iterdir())
    got, _, err = run(*[argument.format(**names) for argument in arguments])
    assert got == status, err
    assert message in err
    assert err.startswith("toolkit: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


def test_usage_errors_exit_with_2(run: Run) -> None:
    assert run("encode")[0] == 2
    assert run("no-such-command")[0] == 2
    assert run("decode", "--precision", "float8", "a", "b")[0] == 2


def test_listings_are_json_on_request(run: Run) -> None:
    presets = json.loads(run("presets", "--json")[1])["presets"]
    assert {"pln-isgs", "jpeg"} <= {p["name"] for p in presets}
    assert all(len(p["identity"]) == 12 for p in presets)
    plugins = json.loads(run("plugins", "--json")[1])
    assert all(record["error"] == "" for record in plugins)
    codecs = json.loads(run("codecs", "--json")[1])
    assert {"name", "needs", "missing", "suffix"} <= set(codecs[0])
    for command in ("presets", "plugins", "codecs"):
        assert "pln" in run(command)[1]


def test_the_installed_program_runs(photo: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "toolkit", "encode", str(photo), str(tmp_path / "a.qf")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "bpp" in done.stdout


def test_threads_and_precision_are_taken(run: Run, photo: Path, tmp_path: Path) -> None:
    coded = tmp_path / "photo.qf"
    assert run("encode", photo, coded, "--threads", 2)[0] == 0
    shown = {}
    for precision in ("float32", "float64", "bfloat16"):
        out = tmp_path / f"{precision}.png"
        assert run("decode", coded, out, "--precision", precision, "--threads", 1)[0] == 0
        shown[precision] = np.asarray(Image.open(out)).astype(float)
    assert np.abs(shown["float32"] - shown["float64"]).max() <= 1
    assert np.abs(shown["float32"] - shown["bfloat16"]).mean() < 2


@pytest.mark.parametrize(("codec", "exact"), [("pln-fast", True), ("jpeg", False)])
def test_a_wanted_size_is_kept(
    run: Run, photo: Path, tmp_path: Path, codec: str, exact: bool
) -> None:
    coded = tmp_path / "coded"
    assert run("encode", photo, coded, "--codec", codec, "--target-bytes", 800)[0] == 0
    assert coded.stat().st_size <= 800
    if exact:
        assert coded.stat().st_size >= 799
    by_bpp = ("--codec", codec, "--target-bpp", 0.8, "--force")
    assert run("encode", photo, coded, *by_bpp)[0] == 0
    assert coded.stat().st_size <= 800
    assert run("encode", photo, tmp_path / "x", "--target-bytes", 9)[0] == 3
    assert run("encode", photo, tmp_path / "x", "--target-bytes", 9, "--point", 1)[0] == 2
    assert not (tmp_path / "x").exists()


def test_a_wanted_quality_is_met(run: Run, photo: Path, tmp_path: Path) -> None:
    coded, shown = tmp_path / "coded", tmp_path / "shown.png"
    jpeg = ("--codec", "jpeg", "--force")
    status, out, err = run("encode", photo, coded, *jpeg, "--target-psnr", 34, "--json")
    assert (status, err, json.loads(out)["warning"]) == (0, "", None)
    assert run("decode", coded, shown)[0] == 0
    difference = np.asarray(Image.open(photo), float) - np.asarray(Image.open(shown), float)
    assert 34 <= 10 * np.log10(255**2 / np.square(difference).mean()) < 35
    less = run("encode", photo, coded, *jpeg, "--point", json.loads(out)["point"] - 1)
    assert less[0] == 0
    run("decode", coded, shown, "--force")
    difference = np.asarray(Image.open(photo), float) - np.asarray(Image.open(shown), float)
    assert 10 * np.log10(255**2 / np.square(difference).mean()) < 34


@pytest.mark.parametrize(
    ("codec", "target", "message"),
    [
        ("jpeg", ("--target-psnr", 90), "90 dB wanted"),
        ("jpeg", ("--target-psnr", 5), "5 dB wanted"),
        ("pln-fast", ("--target-bytes", 10**6), "1000000 bytes wanted"),
        ("jpeg", ("--target-bpp", 50), "50000 bytes wanted"),
    ],
)
def test_a_target_beyond_the_codec_is_told(
    run: Run, photo: Path, tmp_path: Path, codec: str, target: tuple[object, ...], message: str
) -> None:
    coded = tmp_path / "coded"
    status, out, err = run("encode", photo, coded, "--codec", codec, *target, "--json")
    told = json.loads(out)
    assert status == 0
    assert f"beyond the range of '{'pln' if 'pln' in codec else codec}': {message}" in err
    assert told["warning"] in err
    assert coded.stat().st_size < 25000  # nothing is spent on padding


def test_targets_exclude_each_other(run: Run, photo: Path, tmp_path: Path) -> None:
    both = ("--target-psnr", 30, "--target-bpp", 1)
    assert run("encode", photo, tmp_path / "x.qf", *both)[0] == 2


def test_codecs_with_commas_and_a_short_help(
    run: Run, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, _ = run(
        "eval", photo, "--codec", "jpeg,webp", "--point", "50", "--json", "-", "--no-plot"
    )
    assert status == 0
    assert [row["codec"] for row in json.loads(out)["rows"]] == ["jpeg", "webp"]
    assert run("eval", "-h") == run("eval", "--help")


@pytest.mark.parametrize("device", ["cpu", "auto", "cuda", "mps"])
def test_any_device_that_is_there(run: Run, photo: Path, tmp_path: Path, device: str) -> None:
    """A file coded on one decodes on another, to pixels that differ by rounding alone."""
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    options = ("--codec", "pln", "-o", "refinement_steps=2", "--device", device)
    status, _, err = run("encode", photo, tmp_path / "a.qf", *options)
    if not there.get(device, True):
        assert (status, f"device '{device}': torch" in err) == (4, True)
        return
    assert status == 0
    for name, where in (("a.png", device), ("b.png", "cpu")):
        assert run("decode", tmp_path / "a.qf", tmp_path / name, "--device", where)[0] == 0
    first, second = (np.asarray(Image.open(tmp_path / n), int) for n in ("a.png", "b.png"))
    assert np.abs(first - second).max() <= 2
