"""docs/thesis.md names what is there: presets, recipes, files, options; and leaves no row open."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import toolkit
from toolkit.plugin.loader import load_plugins
from toolkit.plugin.presets import load_registry, parse_override
from toolkit.training.recipe import load_recipe
from toolkit.training.shipped import find_recipe

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "thesis.md").read_text()
ITEMS = TEXT.partition("## What its errors cost")[0]
ROWS = [line for line in ITEMS.splitlines() if line.startswith("| ") and "---" not in line]


def test_every_row_says_where_it_is() -> None:
    assert len(ROWS) > 50
    for row in ROWS:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) in (2, 3)
        assert all(cells[:2]), row
        assert "missing" not in row


@pytest.mark.parametrize("name", sorted(set(re.findall(r"--codec ([a-z0-9-]+)", TEXT))))
def test_presets_are_there(name: str) -> None:
    assert load_registry(load_plugins()).preset(name).sweep


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)", TEXT))))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / "docs" / link).resolve().is_file()


def test_recipes_take_the_options_that_the_page_sets() -> None:
    plugins = load_plugins()
    for name in set(re.findall(r"toolkit train (thesis-[a-z-]+)", TEXT)):
        recipe = load_recipe(find_recipe(name, plugins), {"data.folder": "x"})
        assert plugins.entropy_model(recipe.model)
    printed = [
        parse_override(t) for t in re.findall(r"--set (options\.combination\S+?)[`\s]", TEXT)
    ]
    assert {key for key, _ in printed} == {
        "options.combination.exponent",
        "options.combination.swapped",
    }


def test_encoder_options_of_the_page_are_options() -> None:
    found = set(re.findall(r"-o (encoder\.[a-z.]+)=", TEXT))
    assert found == {
        "encoder.recomputed",
        "encoder.combination.exponent",
        "encoder.combination.swapped",
    }
    codec = toolkit.load(
        "pln", {"encoder": {"recomputed": False, "combination": {"exponent": 1, "swapped": True}}}
    )
    assert codec.options.encoder["recomputed"] is False
