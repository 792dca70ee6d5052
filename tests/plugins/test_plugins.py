"""Plugins: found, loaded one by one, reported when broken."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from faulty_plugins import FAULTY, HEAD

from toolkit.errors import MissingError, UnknownName
from toolkit.plugin.hookspecs import hookimpl
from toolkit.plugin.loader import Plugins, load_plugins
from toolkit.plugin.specs import CodecSpec, SamplerSpec


@pytest.mark.parametrize("fault", FAULTY)
def test_a_faulty_plugin_is_reported_and_all_else_works(fault: str, tmp_path: Path) -> None:
    source, message = FAULTY[fault]
    file = tmp_path / "faulty.py"
    file.write_text(source)
    plugins = load_plugins([file])
    (problem,) = [r for r in plugins.problems if r.origin == str(file)]
    assert message in problem.error
    assert "\n" not in problem.error
    assert {"pln", "jpeg"} <= set(plugins.codecs)
    assert "trellis" in plugins.samplers


def test_a_plugin_keeps_what_it_yielded_before_it_failed(tmp_path: Path) -> None:
    file = tmp_path / "half.py"
    file.write_text(
        HEAD + "@hookimpl\ndef toolkit_codecs():\n"
        "    yield CodecSpec('first', '', 'a:B')\n    raise ValueError('then not')"
    )
    plugins = load_plugins([file])
    assert "first" in plugins.codecs
    assert "then not" in plugins.problems[-1].error


def test_a_broken_entry_point_is_named_with_its_distribution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def explode() -> None:
        raise ImportError("built for another version")

    points = [
        SimpleNamespace(
            name="third", dist=SimpleNamespace(name="third-party", version="2.1"), load=explode
        )
    ]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)
    (problem,) = load_plugins().problems
    assert problem.origin == "third-party 2.1"
    assert "built for another version" in problem.error


def test_built_ins_have_no_problems() -> None:
    assert load_plugins().problems == []


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UnknownName, match="no sampler 'treliss'; nearest: trellis"):
        load_plugins().sampler("treliss")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no such plugin file"):
        load_plugins([tmp_path / "none.py"])


def test_a_file_is_loaded_once_until_it_changes(tmp_path: Path) -> None:
    """Classes of one load are those of the next, so that objects of both fit, and pickle."""
    path, other = tmp_path / "one.py", tmp_path / "folder" / "one.py"
    text = HEAD + "class Mine:\n    pass\n"
    other.parent.mkdir()
    path.write_text(text)

    def loaded(path: Path) -> type:
        assert load_plugins([path]).problems == []
        found: type = sys.modules["toolkit_file_one"].Mine
        return found

    first = loaded(path)
    assert loaded(path) is first
    assert loaded(other.parent / ".." / "one.py") is first
    assert type(pickle.loads(pickle.dumps(first()))) is first
    path.write_text(text + "# changed\n")
    assert loaded(path) is not first
    other.write_text(path.read_text())
    second = loaded(other)
    assert sys.modules["toolkit_file_one"].__file__ == str(other)
    assert loaded(path) is not second


def test_a_factory_that_cannot_be_loaded_is_a_clear_error() -> None:
    with pytest.raises(MissingError, match="'x' can't be loaded: No module named 'nowhere'"):
        _ = SamplerSpec("x", "", "nowhere:X").loaded
    with pytest.raises(MissingError, match="needs no-such-program, python:no_such_module"):
        _ = CodecSpec("x", "", "a:B", needs=("no-such-program", "python:no_such_module")).loaded


def test_a_later_plugin_cannot_replace_silently() -> None:
    class One:
        @hookimpl
        def toolkit_samplers(self):  # type: ignore[no-untyped-def]
            yield SamplerSpec("s", "of one", "a:B")

    plugins = Plugins()
    plugins.add("one", "test", One)
    plugins.add("two", "test", One)
    assert plugins.sampler("s").summary == "of one"
    assert plugins.problems[0].name == "two"


@pytest.mark.parametrize("arguments", [["--help"], ["plugins"], ["presets"]])
def test_listing_imports_neither_torch_nor_compressai(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['toolkit', *{arguments!r}]\n"
        "from toolkit.cli import main\n"
        "try:\n    main()\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        "heavy = {'torch', 'compressai', 'scipy', 'numba', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
