"""Modules of the harness import each other, and the host, in one direction."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HARNESS = ROOT / "evaluation" / "toolkit_evaluation"
HOST = ROOT / "toolkit"
HAND_OVER = ("toolkit.api", "toolkit.cli")
"""Places in the host that may load the harness, when they are called."""


def modules(folder: Path) -> dict[str, Path]:
    """Module name -> file, of a package."""
    return {
        ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for path in folder.rglob("*.py")
    }


def imported(path: Path) -> set[tuple[str, bool]]:
    """(module, whether at the top of the file) of every import, those for types among them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[tuple[str, bool]] = set()
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found |= {(name, node in tree.body) for name in names}
    return found


def graph() -> dict[str, set[str]]:
    """Module of the harness -> modules of the harness that it imports, anywhere in its text."""
    paths = modules(HARNESS)
    return {
        name: {other for other, _ in imported(path) if other in paths and other != name}
        for name, path in paths.items()
        if name != "toolkit_evaluation"  # loads what it exports when it is asked for
    }


def test_no_circle_of_modules() -> None:
    found = graph()
    assert len(found) > 30
    list(TopologicalSorter(found).static_order())


def test_no_circle_of_folders() -> None:
    folders: dict[str, set[str]] = {}
    for name, others in graph().items():
        own = name.split(".")[1]
        folders.setdefault(own, set()).update(other.split(".")[1] for other in others)
    for own, others in folders.items():
        others.discard(own)
    list(TopologicalSorter(folders).static_order())


def test_a_circle_would_be_found() -> None:
    found = graph()
    found["toolkit_evaluation.results.row"].add("toolkit_evaluation.results.table")
    with pytest.raises(CycleError):
        list(TopologicalSorter(found).static_order())


def test_the_host_loads_the_harness_only_to_hand_over() -> None:
    for name, path in modules(HOST).items():
        for other, at_top in imported(path):
            if other.split(".")[0] == "toolkit_evaluation":
                assert name.startswith(HAND_OVER), f"{name} imports {other}"
                assert not at_top, f"{name} imports {other} before it is called"


def test_the_harness_needs_no_command_nor_facade() -> None:
    for name, path in modules(HARNESS).items():
        for other, _ in imported(path):
            assert not other.startswith(HAND_OVER), f"{name} imports {other}"
            assert other != "toolkit", f"{name} imports the facade"
