"""What the guides in ``docs/how-to`` on the library say works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from random_models import picture

from toolkit.options import parse_options
from toolkit.plugin.loader import load_plugins
from toolkit.training.recipe import Objective, Recipe

ROOT = Path(__file__).parents[2]
GUIDES = ROOT / "docs" / "how-to"
NAMES = ("code-any-gaussians", "compressai-models")


def text(name: str) -> str:
    return (GUIDES / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_blocks_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.fromarray(picture(192, 192)).save(tmp_path / "photos" / "a.png")
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", text(name), re.DOTALL)
    assert len(blocks) >= 3
    threads = torch.get_num_threads()
    for block in blocks:
        exec(block, names)
    torch.set_num_threads(threads)  # CompressAI's evaluation sets it to 1
    if name == "code-any-gaussians":
        assert names["z"].shape == (64, 100)
        assert names["merit"].j_percent < 20
        assert len(names["exact"]) > len(names["other"]) > 100
    else:
        assert names["x_hat"].shape == names["x"].shape
        assert 0 < names["means"]["bpp"] < 5
        assert names["data"][1:3] == b"QF"
        Objective(distortion="mse")  # what the page saves is one


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


@pytest.mark.parametrize("name", NAMES)
def test_commands_are_of_examples_that_are_there(name: str) -> None:
    commands = re.findall(r"^python (\S+)", text(name), re.MULTILINE)
    assert commands
    for path in commands:
        assert (ROOT / path).is_file()
