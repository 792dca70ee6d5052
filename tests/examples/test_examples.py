"""examples/: one file of each kind, short, from one import, each passing its kit; the entropy model
trains, codes with any sampler and decodes elsewhere, as a file and as an installed package."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from toolkit.codec.base import Encoded
from toolkit.codec.ladder_codec import LadderCodec
from toolkit.options import parse_options
from toolkit.plugin.loader import load_plugins
from toolkit.testing import check_codec, check_entropy_model, check_metric, check_sampler
from toolkit.testing.pictures import picture

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples"
FILES = ("sampler.py", "codec.py", "metric.py", "entropy_model.py")
SAMPLERS = ("trellis", "greedy", "importance")
QUICK = ("greedy",)


# -- the files ----------------------------------------------------------------------------


def test_there_is_one_of_each_kind() -> None:
    assert {path.name for path in FOLDER.glob("*.py")} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_each_is_short_and_needs_one_import_of_the_toolkit(name: str) -> None:
    source = (FOLDER / name).read_text()
    assert len(source.splitlines()) <= 80
    modules = {n.module for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ImportFrom)}
    assert {m for m in modules if m and m.startswith("toolkit")} == {"toolkit.plugin"}
    assert "import toolkit" not in source


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("sampler", lambda plugins: check_sampler("best", plugins=plugins)),
        ("codec", lambda plugins: check_codec("blocks", plugins=plugins)),
        ("metric", lambda plugins: check_metric("step-psnr", plugins=plugins)),
        ("entropy_model", lambda plugins: check_entropy_model("tiny", plugins=plugins)),
    ],
)
def test_each_passes_its_kit(name: str, check: Callable[[object], object]) -> None:
    plugins = load_plugins([FOLDER / f"{name}.py"])
    assert plugins.problems == []
    assert str(check(plugins))


# -- in use ---------------------------------------------------------------------------------


class Workspace:
    """A folder with pictures, and the program with a plugin in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.arguments: tuple[str, ...] = ()
        self.path = [ROOT, ROOT / "plugins", ROOT / "evaluation"]
        (folder / "photos").mkdir()
        for number in range(4):
            self.add(folder / "photos" / f"{number}.png", picture(96, 128, seed=number))

    def add(self, path: Path, pixels: NDArray[np.uint8]) -> None:
        Image.fromarray(pixels).save(path)

    def run(self, *arguments: object) -> str:
        """Standard output of the program, in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "toolkit", *map(str, arguments), *self.arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, self.path))},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def pixels(self, name: str) -> NDArray[np.uint8]:
        return np.asarray(Image.open(self.folder / name))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def train(workspace: Workspace, recipe: Path) -> Path:
    settings = ("data.folder=photos", "data.hold_out=1", "schedule.steps=30", "options.width=12")
    sets = [word for text in settings for word in ("--set", text)]
    workspace.run("train", recipe, "--out", "run", *sets)
    (weights,) = (workspace.folder / "run").glob("*.safetensors")
    return weights


def evaluate_and_decode(
    workspace: Workspace, model: str, weights: Path, samplers: tuple[str, ...]
) -> None:
    """Eval with each sampler; then files of an encoder in this process, decoded in another."""
    presets = "".join(
        f"  {name}: {{codec: {model}, options: {{levels: {{default: {{sampler: {name}}}}}}}}}\n"
        for name in samplers
    )
    (workspace.folder / "registry.yaml").write_text(f"presets:\n{presets}")
    codecs = [word for name in samplers for word in ("--codec", name)]
    out = workspace.run(
        "eval", "photos/1.png", *codecs, "-o", f"weights={weights}", "--point", 0.2,
        "--point", 0.8, "--no-plot", "--json", "-",
    )  # fmt: skip
    rows = json.loads(out[out.index("{") :])["rows"]
    assert [(r["codec"], r["status"]) for r in rows] == [(n, "ok") for n in samplers for _ in "ab"]
    assert all(low["bpp"] < high["bpp"] for low, high in zip(rows[::2], rows[1::2], strict=True))
    for name in samplers:
        encoded = encode(model, weights, name, workspace.pixels("photos/1.png"))
        (workspace.folder / "a.qf").write_bytes(encoded.data)
        workspace.run("decode", "a.qf", "a.png", "--force", "--weights", weights, "--threads", 1)
        np.testing.assert_array_equal(workspace.pixels("a.png"), encoded.reconstruction)


def encode(model: str, weights: Path, sampler: str, pixels: NDArray[np.uint8]) -> Encoded:
    """By the example's code, as the model of this name, with its reconstruction."""
    plugins = load_plugins([FOLDER / "entropy_model.py"])
    values = {"weights": str(weights), "levels": {"default": {"sampler": sampler}}}
    spec = replace(plugins.entropy_model("tiny"), name=model).codec_spec
    options: Any = parse_options(LadderCodec.options_class, values, "test")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        encoded = LadderCodec(spec, options, plugins).encode(pixels, 0.6)
        assert encoded.reconstruction is not None
        return encoded
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("samplers", [QUICK, pytest.param(SAMPLERS, marks=pytest.mark.slow)])
def test_the_entropy_model_trains_codes_and_decodes_elsewhere(
    workspace: Workspace, samplers: tuple[str, ...]
) -> None:
    workspace.arguments = ("--plugin", str(FOLDER / "entropy_model.py"))
    weights = train(workspace, FOLDER / "tiny.yaml")
    assert weights.name == "tiny.safetensors"
    evaluate_and_decode(workspace, "tiny", weights, samplers)


@pytest.mark.slow
def test_the_same_as_an_installed_package(workspace: Workspace) -> None:
    """Its weights lie in the package: files name their model, and decoders find them."""
    pytest.importorskip("setuptools")
    workspace.run("new", "entropy-model", "mine", "--out", "package")
    site = workspace.folder / "site"
    pip = "-m pip install --quiet --no-deps --no-build-isolation --no-index --target site ./package"
    done = subprocess.run(
        [sys.executable, *pip.split()], cwd=workspace.folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    workspace.path.append(site)
    assert "mine (toolkit-mine 0.1.0): ok" in workspace.run("plugins", "--check")
    weights = train(workspace, Path("mine"))
    evaluate_and_decode(workspace, "mine", weights, SAMPLERS)
    (site / "toolkit_mine" / "weights").mkdir()
    (site / "toolkit_mine" / "weights" / "mine.safetensors").write_bytes(weights.read_bytes())
    workspace.run("encode", "photos/2.png", "b.qf", "--codec", "mine")
    workspace.run("decode", "b.qf", "b.png")
    assert workspace.pixels("b.png").shape == (96, 128, 3)


def test_the_codec_codes_and_decodes_without_a_preset(workspace: Workspace) -> None:
    workspace.arguments = ("--plugin", str(FOLDER / "codec.py"))
    workspace.run("encode", "photos/0.png", "a.qf", "--codec", "blocks", "--point", 10)
    workspace.run("decode", "a.qf", "a.png")
    error = workspace.pixels("a.png").astype(float) - workspace.pixels("photos/0.png")
    assert 0 < np.square(error).mean() < 60
    out = workspace.run(
        "eval", "photos/0.png", "--codec", "blocks", "--no-plot", "--json", "-", "--out", "results"
    )
    rows = json.loads(out[out.index("{") :])["rows"]
    assert len(rows) == 5
    assert {row["status"] for row in rows} == {"ok"}


def test_the_metric_is_in_the_table(workspace: Workspace) -> None:
    workspace.arguments = ("--plugin", str(FOLDER / "metric.py"))
    out = workspace.run(
        "eval", "photos/0.png", "--codec", "jpeg", "--metric", "step-psnr", "--point", 50,
        "--no-plot", "--json", "-", "--out", "results",
    )  # fmt: skip
    (row,) = json.loads(out[out.index("{") :])["rows"]
    assert 10 < row["step_psnr"] < 60


@pytest.mark.slow  # the README's sampler does so in its own test
def test_the_sampler_codes_a_level(workspace: Workspace) -> None:
    workspace.arguments = ("--plugin", str(FOLDER / "sampler.py"))
    options = ("--codec", "pln-fast", "-o", "levels.level1.sampler=best")
    workspace.run("encode", "photos/0.png", "a.qf", *options)
    workspace.run("decode", "a.qf", "a.png")
    assert workspace.pixels("a.png").shape == (96, 128, 3)
