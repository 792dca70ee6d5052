"""Recipes that come with plugins: the files ``recipes/*.yaml`` beside their modules."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from toolkit.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from toolkit.plugin.loader import Plugins


def shipped_recipes(plugins: Plugins) -> dict[str, list[Path]]:
    """The recipes of all plugins, sorted by name; more than one file where plugins share a name."""
    folders = {_folder(plugin) for plugin in plugins.manager.get_plugins()}
    found: dict[str, list[Path]] = {}
    files = (path for folder in folders if folder for path in folder.glob("*.yaml"))
    for path in sorted(files, key=lambda path: (path.stem, path)):
        found.setdefault(path.stem, []).append(path)
    return found


def _folder(plugin: Any) -> Path | None:
    module = plugin if hasattr(plugin, "__file__") else sys.modules.get(type(plugin).__module__)
    file = getattr(module, "__file__", None)
    return Path(file).resolve().parent / "recipes" if file else None


def find_recipe(name: str, plugins: Plugins) -> Path:
    """The recipe that ``name`` means: a file, or the name of one that ships.

    Raises UsageError where no recipe that ships, or more than one, is called so. A path is
    returned whether there is such a file or not.
    """
    path = Path(name)
    if path.is_file() or path.suffix or path.name != name:
        return path
    shipped = shipped_recipes(plugins)
    if name not in shipped:
        raise UnknownName("recipe", name, shipped)
    if len(shipped[name]) > 1:
        raise UsageError(
            f"several recipes are called '{name}'; give the file: "
            + ", ".join(map(str, shipped[name]))
        )
    return shipped[name][0]


def describe(path: Path) -> str:
    """One line on a recipe: its model, and the first sentence of the comment it begins with."""
    text = path.read_text()
    comment = re.match(r"(?:#.*\n)*", text)
    lines = comment.group().splitlines() if comment else []
    words = " ".join(line.lstrip("# ") for line in lines)
    model = (yaml.safe_load(text) or {}).get("model", "?")
    return f"{model}: {re.split(r'[.:;](?: |$)', words, maxsplit=1)[0]}"
