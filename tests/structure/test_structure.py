"""How the house is built: no circles, arrows that go one way, no file too long, no model named."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from toolkit.option_docs import option_docs
from toolkit.options import Options
from toolkit.plugin.loader import load_plugins
from toolkit.sampling.choice import CommonOptions

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "toolkit": ROOT / "toolkit",
    "toolkit_plugins": ROOT / "plugins" / "toolkit_plugins",
    "toolkit_evaluation": ROOT / "evaluation" / "toolkit_evaluation",
}
LONGEST = 400
LINES_ALIKE = 6
FILES_OF_OTHERS = {"toolkit_evaluation.results.reference", "toolkit_evaluation.results.row"}
"""They read published tables, and rows of before, by the names that are in them."""


def modules() -> dict[str, Path]:
    """Dotted name -> file."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join([package, *parts]).removesuffix(".__init__")
            found[name] = path
    return found


MODULES = modules()


def imports(path: Path, everywhere: bool = False) -> Iterator[str]:
    """Modules of the house that a file imports: when it is loaded, or ``everywhere`` in it."""
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree)) if everywhere else list(_at_load(tree.body))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                if below in MODULES:
                    yield below
                elif node.module in MODULES:
                    yield node.module


def _at_load(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        for inner in ("body", "orelse", "finalbody"):
            yield from _at_load(getattr(node, inner, []))


def test_imports_have_no_circles() -> None:
    graph = {name: set(imports(path)) - {name} for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            pytest.fail("circle: " + " -> ".join([*above[above.index(name) :], name]))
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*above, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())
    assert len(done) == len(MODULES)


def test_arrows_go_one_way() -> None:
    """evaluation -> toolkit <- plugins. The host hands over to the harness where it is asked to."""
    handing_over = re.compile(r"toolkit\.(api|cli\..*)")
    for name, path in MODULES.items():
        package = name.partition(".")[0]
        for other in imports(path, everywhere=True):
            there = other.partition(".")[0]
            if there == package:
                continue
            assert package != "toolkit" or there != "toolkit_plugins", (name, other)
            assert package != "toolkit_plugins" or there != "toolkit_evaluation", (name, other)
            if package == "toolkit":
                assert handing_over.fullmatch(name), (name, other)


def test_no_file_is_too_long() -> None:
    files = [*MODULES.values(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]
    lengths = {path: len(path.read_text().splitlines()) for path in files}
    assert {str(path): n for path, n in lengths.items() if n > LONGEST} == {}


def test_the_host_and_the_harness_name_no_model() -> None:
    named = re.compile(r"pln|level1|level2|hyperprior", re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for name, path in MODULES.items()
        if not name.startswith("toolkit_plugins") and name not in FILES_OF_OTHERS
        for number, line in enumerate(_without_docs(path), 1)
        if named.search(line)
    ]
    assert found == []


def _without_docs(path: Path) -> list[str]:
    """Lines of a file, those of docstrings and comments empty: examples may name what they like."""
    lines = path.read_text().splitlines()
    for node in ast.walk(ast.parse(path.read_text())):
        value = getattr(node, "value", None)
        if isinstance(node, ast.Expr) and isinstance(value, ast.Constant):
            for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                lines[number - 1] = ""
    return [line.partition("#")[0] for line in lines]


def _without_imports(path: Path) -> list[str]:
    """Lines as above, those of import statements empty: lists of names may be alike."""
    lines = _without_docs(path)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                lines[number - 1] = ""
    return lines


def test_no_six_equal_lines_in_two_places() -> None:
    places: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, path in MODULES.items():
        code = [line.strip() for line in _without_imports(path)]
        code = [line for line in code if len(line) > 3]
        for start in range(len(code) - LINES_ALIKE + 1):
            run = tuple(code[start : start + LINES_ALIKE])
            if not all(re.fullmatch(r"[\w\"', =.]+,?|\)|\]", line) for line in run):
                places[run].append(name)
    twice = {names[0]: (names, run) for run, names in places.items() if len(names) > 1}
    assert twice == {}


def option_classes() -> set[type[Options]]:
    """What the options of codecs, models and samplers that ship are declared in."""
    plugins = load_plugins()
    specs = [*plugins.codecs.values(), *plugins.entropy_models.values(), *plugins.samplers.values()]
    loaded = [spec.loaded for spec in specs if not spec.missing()]
    classes = {part.options_class for part in loaded} | {CommonOptions}
    encoders = (getattr(part, "encoder_options_class", None) for part in loaded)
    return classes | {cls for cls in encoders if cls is not None}


def test_every_option_is_documented() -> None:
    """So that ``--options`` can tell of it."""
    classes = option_classes()
    assert len(classes) > 15
    found = [
        f"{cls.__module__}.{cls.__name__}.{doc.name}"
        for cls in classes
        for doc in option_docs(cls)
        if not re.search(r"\w+ .*\w+.*\.", doc.about)
    ]
    assert sorted(found) == []
