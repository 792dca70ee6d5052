"""``toolkit new``: a package with a plugin of your own, its test and its entry point.

The code is that of the toolkit's example of the kind, split in two: ``__init__.py`` has the hook,
so that listing plugins imports little, and a module has what the hook names.
"""

from __future__ import annotations

import ast
import importlib.util
import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli import session

if TYPE_CHECKING:
    from toolkit.plugin.specs import Spec

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LINE = 100


class KindName(StrEnum):
    """Kinds of plugin, as the command calls them."""

    SAMPLER = "sampler"
    CODEC = "codec"
    METRIC = "metric"
    ENTROPY_MODEL = "entropy-model"


@dataclass(frozen=True)
class _Kind:
    """Of one kind: its example and how that is tested."""

    module: str
    """Of the example, and of the package's module."""
    hook: str
    name: str
    """Under which the example is registered."""
    attribute: str
    """What the example's factory names."""
    test: str
    """Name of the kit's function."""
    call: str
    """How the kit is called, given ``spec``."""
    recipe: str = ""
    """File of the example's recipe."""
    usage: str = ""
    """What the README says of its use."""


_TRAINING = """
```sh
pip install -e .
toolkit train {name} --out runs/{name}           # the recipe: {module}/recipes/{name}.yaml
toolkit eval --codec {name} -o weights=runs/{name}/{name}.safetensors photos
```

The recipe trains for a minute on the pictures in `photos`. Weights that lie in `{module}/weights/`
need no option, neither to encode nor to decode, and go into the package.
"""

_KINDS = {
    KindName.SAMPLER: _Kind(
        "sampler", "toolkit_samplers", "best", "Best", "check_sampler",
        "check_sampler(spec.loaded(spec.loaded.options_class()))",
    ),
    KindName.CODEC: _Kind(
        "codec", "toolkit_codecs", "blocks", "Blocks", "check_codec", "check_codec(spec)"
    ),
    KindName.METRIC: _Kind(
        "metric", "toolkit_metrics", "step-psnr", "step_psnr", "check_metric", "check_metric(spec)"
    ),
    KindName.ENTROPY_MODEL: _Kind(
        "entropy_model", "toolkit_entropy_models", "tiny", "Tiny", "check_entropy_model",
        'check_entropy_model(spec, {"width": 8})', "tiny.yaml", _TRAINING,
    ),
}  # fmt: skip


def new(
    kind: Annotated[KindName, typer.Argument(help="What it provides.")],
    name: Annotated[str, typer.Argument(help="Its name: lower case, digits, hyphens.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to make; default: toolkit-NAME, here.")
    ] = None,
) -> None:
    """Write a package with a plugin of your own: code to start from, its test, its entry point.

    Nothing is overwritten: the folder must be new or empty.
    """
    folder = out if out is not None else Path(f"toolkit-{name}")
    _check(kind, name, folder)
    for path, text in _files(_KINDS[kind], kind.value.replace("-", " "), name).items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("x", encoding="utf-8") as file:
            file.write(text)
    print(f"{folder}: python -m pytest there tests it, pip install -e there installs it")


def _check(kind: KindName, name: str, folder: Path) -> None:
    """Raises UsageError for a name that can't be had, or a folder that holds something."""
    from toolkit.errors import UsageError

    if not _NAME.fullmatch(name) or len(name) > 40:
        raise UsageError(f"'{name}': a name is lower-case letters, digits and single hyphens")
    plugins = session().plugins
    tables: dict[KindName, Mapping[str, Spec]] = {
        KindName.SAMPLER: plugins.samplers,
        KindName.CODEC: plugins.codecs,
        KindName.METRIC: plugins.metrics,
        KindName.ENTROPY_MODEL: {**plugins.codecs, **plugins.entropy_models},
    }
    known = tables[kind]
    if name in known:
        raise UsageError(f"'{name}' is provided by {known[name].provider} already")
    if importlib.util.find_spec(_module(name)) is not None:
        raise UsageError(f"'{name}': there is a module {_module(name)} already")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: is there already; nothing is overwritten")


def _module(name: str) -> str:
    return f"toolkit_{name.replace('-', '_')}"


def _files(kind: _Kind, words: str, name: str) -> dict[str, str]:
    """Path -> text."""
    module = _module(name)
    source = _renamed(_example(f"{kind.module}.py"), kind, name)
    hook, code = _split(source, kind)
    files = {
        "pyproject.toml": _PYPROJECT.format(words=words, name=name, module=module),
        "README.md": (_README + kind.usage).format(words=words, name=name, module=module),
        f"{module}/__init__.py": hook,
        f"{module}/{kind.module}.py": code,
        f"tests/test_{module}.py": _TEST.format(kind=kind, words=words, module=module, name=name),
    }
    if kind.recipe:
        recipe = _example(kind.recipe).replace(f"model: {kind.name}\n", f"model: {name}\n")
        files[f"{module}/recipes/{name}.yaml"] = recipe
        data = f'\n[tool.setuptools.package-data]\n{module} = ["recipes/*", "weights/*"]\n'
        files["pyproject.toml"] += data
    return files


def _example(file: str) -> str:
    """The text of an example: beside the package in a checkout, in it where it is installed."""
    from toolkit.errors import MissingError

    package = Path(__file__).parents[1]
    for folder in (package / "examples", package.parent / "examples"):
        if (folder / file).is_file():
            return (folder / file).read_text(encoding="utf-8")
    raise MissingError(f"the toolkit's example {file} isn't there: install the toolkit again")


def _renamed(source: str, kind: _Kind, name: str) -> str:
    """The example with the name of the new plugin for its own."""
    words = name.split("-")
    is_class = kind.attribute[0].isupper()
    attribute = "".join(w.capitalize() for w in words) if is_class else "_".join(words)
    if keyword.iskeyword(attribute) or re.search(rf"\b{attribute}\b", source):
        attribute = f"My{attribute}" if is_class else f"my_{attribute}"
    source = re.sub(rf"\b{kind.attribute}(?=Options\b|\b)", attribute, source)
    return source.replace(f'Spec("{kind.name}"', f'Spec("{name}"').replace(
        f'        "{kind.name}", ', f'        "{name}", '
    )


def _split(source: str, kind: _Kind) -> tuple[str, str]:
    """The hook's module and the module of what it names."""
    lines, tree = source.splitlines(), ast.parse(source)
    (hook,) = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == kind.hook]
    (imported,) = [
        n for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "toolkit.plugin"
    ]
    names = [alias.name for alias in imported.names]
    summary = (ast.get_docstring(tree) or "").splitlines()[0]
    first = hook.decorator_list[0].lineno
    hook_text = "\n".join(lines[first - 1 : hook.end_lineno])
    hook_text = _wrapped(hook_text.replace("{__name__}:", f"{{__name__}}.{kind.module}:"))
    docstring_end = tree.body[0].end_lineno or 0
    before = "\n".join(lines[docstring_end : imported.lineno - 1])
    after = "\n".join([*lines[imported.end_lineno : first - 1], *lines[hook.end_lineno :]])
    code = f'"""{summary}"""\n{before}\n{_import(names, before + after)}{after}\n'
    code = re.sub(r"\n{4,}", "\n\n\n", code)
    return f'"""{summary}"""\n\n{_import(names, hook_text)}\n\n{hook_text}\n', code


def _wrapped(hook: str) -> str:
    """A hook with each argument of its descriptor in a line of its own where one is too long."""
    if max(map(len, hook.splitlines())) <= _LINE:
        return hook
    call = next(n for n in ast.walk(ast.parse(hook)) if isinstance(n, ast.Yield)).value
    assert isinstance(call, ast.Call)
    lines = hook.splitlines()[: call.lineno]
    lines[-1] = f"    yield {ast.unparse(call.func)}("
    parts = (ast.get_source_segment(hook, part) for part in (*call.args, *call.keywords))
    return "\n".join([*lines, *(f"        {part}," for part in parts), "    )"])


def _import(names: list[str], used_in: str) -> str:
    """The import of those names that a text uses."""
    used = [name for name in names if re.search(rf"\b{name}\b", used_in)]
    if not used:
        return ""
    line = f"from toolkit.plugin import {', '.join(used)}\n"
    if len(line) <= _LINE:
        return line
    return "from toolkit.plugin import (\n" + "".join(f"    {name},\n" for name in used) + ")\n"


_PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "toolkit-{name}"
version = "0.1.0"
description = "{words} '{name}' for compression without quantization"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["compression-without-quantization"]

[project.optional-dependencies]
test = ["pytest>=8"]

[project.entry-points."toolkit.plugins"]
{name} = "{module}"

[tool.setuptools]
packages = ["{module}"]

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["."]
"""

_README = """\
# toolkit-{name}

The {words} `{name}`, a plugin of the toolkit for compression without quantization: after
`pip install .` it is among those that `toolkit plugins` lists. `python -m pytest` tests it.
"""

_TEST = '''\
"""The {words} {name} keeps its contract."""

from {module} import {kind.hook}

from toolkit.testing import {kind.test}


def test_it_keeps_the_contract():
    (spec,) = {kind.hook}()
    print({kind.call})
'''


def register(app: typer.Typer) -> None:
    app.command()(new)
