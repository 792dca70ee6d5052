"""What the guides in ``docs/how-to`` on the library say works."""

from __future__ import annotations

import hashlib
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from file_server import serving
from PIL import Image
from random_models import picture

import toolkit
from toolkit.api import decode_file
from toolkit.cli import main
from toolkit.codec.base import DecodeSettings, as_pixels
from toolkit.format.errors import OtherModel
from toolkit.options import parse_options
from toolkit.plugin.loader import load_plugins
from toolkit.training.recipe import Objective, Recipe

ROOT = Path(__file__).parents[2]
GUIDES = ROOT / "docs" / "how-to"
NAMES = ("code-any-gaussians", "compressai-models", "your-own-weights", "weights-from-elsewhere")
GOLDEN_WEIGHTS = Path(__file__).parents[1] / "golden" / "pln" / "weights.safetensors"


def text(name: str) -> str:
    return (GUIDES / f"{name}.md").read_text(encoding="utf-8")


def run_blocks(name: str) -> dict[str, Any]:
    """Run a page's blocks of Python, one after the other; returns their names."""
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", text(name), re.DOTALL)
    assert blocks
    threads = torch.get_num_threads()
    for block in blocks:
        exec(block, names)
    torch.set_num_threads(threads)  # CompressAI's evaluation sets it to 1
    return names


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A picture, and one in ``photos``, in the current folder, which is empty otherwise."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.fromarray(picture(192, 192)).save(tmp_path / "photos" / "a.png")
    Image.fromarray(picture(64, 96)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def run_commands(name: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a page's ``toolkit`` commands; returns how many there are."""
    blocks = re.findall(r"```sh\n(.*?)```", text(name), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    for line in lines:
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 0
    return len(lines)


def test_any_gaussians(photo: Path) -> None:
    names = run_blocks("code-any-gaussians")
    assert names["z"].shape == (64, 100)
    assert names["merit"].j_percent < 20
    assert len(names["exact"]) > len(names["other"]) > 100


def test_models_as_modules(photo: Path) -> None:
    names = run_blocks("compressai-models")
    assert names["x_hat"].shape == names["x"].shape
    assert 0 < names["means"]["bpp"] < 5
    assert names["data"][1:3] == b"QF"
    Objective(distortion="mse")  # what the page saves is one


def test_weights_of_ones_own(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run_blocks("your-own-weights")
    before = toolkit.load_model("pln").state_dict()
    after = toolkit.load_model("mine.safetensors").state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    how = DecodeSettings(weights="mine.safetensors")
    assert decode_file(names["data"], how).pixels.shape == names["pixels"].shape
    with pytest.raises(OtherModel):
        toolkit.decode(names["data"])
    assert run_commands("your-own-weights", monkeypatch) == 2
    assert as_pixels(photo).shape == (64, 96, 3)


def test_weights_from_elsewhere(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = GOLDEN_WEIGHTS.read_bytes()
    page = text("weights-from-elsewhere")
    page = page.replace("sha256=HEX", f"sha256={hashlib.sha256(content).hexdigest()}")
    page = page.replace("again.png", "again.png --force")
    monkeypatch.setattr(sys.modules[__name__], "text", lambda _: page)
    monkeypatch.setenv("TOOLKIT_DATA", str(photo.parent / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    with serving() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.answers["/me/nets/resolve/v1/mine.safetensors"] = content
        assert run_commands("weights-from-elsewhere", monkeypatch) == 3
        names = run_blocks("weights-from-elsewhere")
        assert len(server.asked) == 1
    assert as_pixels(Path("again.png")).shape == (64, 96, 3)
    assert names["model"].name == "pln"


def test_the_recipe_of_a_compressai_model_is_one() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", text("compressai-models"), re.DOTALL)
    recipe = parse_options(Recipe, yaml.safe_load(block), "the page")
    assert recipe.objective.lambda_min == recipe.objective.lambda_max
    model = load_plugins().entropy_model(recipe.model).loaded
    assert parse_options(model.options_class, recipe.options, "the page") == model.options_class()


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", text(name)):
        assert (GUIDES / target).exists(), target


@pytest.mark.parametrize("name", NAMES[:2])
def test_commands_are_of_examples_that_are_there(name: str) -> None:
    commands = re.findall(r"^python (\S+)", text(name), re.MULTILINE)
    assert commands
    for path in commands:
        assert (ROOT / path).is_file()
