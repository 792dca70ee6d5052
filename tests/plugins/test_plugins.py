"""Plugins: found, loaded one by one, reported when broken."""

from __future__ import annotations

import pickle
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from faulty_plugins import FAULTY, HEAD

import toolkit
from toolkit.cli import main
from toolkit.errors import MissingError, UnknownName
from toolkit.plugin.hookspecs import hookimpl
from toolkit.plugin.loader import Plugins, load_plugins, module_name
from toolkit.plugin.specs import CodecSpec, EntropyModelSpec, SamplerSpec


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
        found: type = sys.modules[module_name(path)].Mine
        return found

    first = loaded(path)
    assert loaded(path) is first
    assert loaded(other.parent / ".." / "one.py") is first
    assert load_plugins([path, other.parent / ".." / "one.py"]).problems == []
    assert type(pickle.loads(pickle.dumps(first()))) is first
    path.write_text(text + "# changed\n")
    assert loaded(path) is not first


def test_files_that_are_called_the_same_are_two_plugins(tmp_path: Path) -> None:
    files = [tmp_path / folder / "my-sampler.py" for folder in ("one", "two")]
    for file in files:
        file.parent.mkdir()
        file.write_text(
            "from toolkit.plugin import Sampler, SamplerSpec, hookimpl\n"
            "class Mine(Sampler):\n"
            f"    folder = {file.parent.name!r}\n"
            "    def encode(self, d, r, random): ...\n"
            "    def decode(self, data, shape, random): ...\n"
            "@hookimpl\ndef toolkit_samplers():\n"
            f"    yield SamplerSpec({file.parent.name!r}, '', f'{{__name__}}:Mine')\n"
        )
    plugins = load_plugins(files)
    assert plugins.problems == []
    for name in ("one", "two"):
        mine = plugins.sampler(name).loaded
        assert mine.folder == name
        assert type(pickle.loads(pickle.dumps(mine.__new__(mine)))) is mine


def test_what_is_left_out_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plugin's name and its file stand in the line one time each."""
    file = tmp_path / "peculiar.py"
    file.write_text(
        HEAD + "class Thing: ...\n@hookimpl\ndef toolkit_samplers():\n"
        "    yield SamplerSpec('mine', '', f'{__name__}:Thing')"
    )
    monkeypatch.setattr(sys, "argv", ["toolkit", "--plugin", str(file), "plugins"])
    with suppress(SystemExit):
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"toolkit: plugin 'peculiar' ({file}): TypeError: sampler 'mine': Thing")
    assert line.count("peculiar") == 2
    assert line.endswith("; left out")


def test_a_factory_that_cannot_be_loaded_is_a_clear_error() -> None:
    with pytest.raises(MissingError, match="'x' can't be loaded: No module named 'nowhere'"):
        _ = SamplerSpec("x", "", "nowhere:X").loaded
    with pytest.raises(MissingError, match="needs no-such-program, python:no_such_module"):
        _ = CodecSpec("x", "", "a:B", needs=("no-such-program", "python:no_such_module")).loaded


def test_a_model_whose_weights_are_not_there_says_so(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "entropy_model.py"
    file = tmp_path / "entropy_model.py"
    file.write_text(example.read_text())
    tiny = load_plugins([file]).codec("tiny")
    assert tiny.unavailable_reason() == "no weights: train them, or -o weights=FILE"
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "tiny.safetensors").touch()
    assert tiny.unavailable_reason() == ""
    nowhere = EntropyModelSpec("x", "", "nowhere.at.all:X", codec_needs=("no-such-program",))
    assert "no weights" in replace(nowhere, codec_needs=()).codec_spec.unavailable_reason()
    assert nowhere.codec_spec.unavailable_reason() == "missing: no-such-program"


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


HEAVY = {"torch", "compressai", "scipy", "numba", "matplotlib"}


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--help"], HEAVY | {"numpy", "yaml", "msgspec", "pluggy", "importlib.metadata"}),
        (["plugins"], HEAVY),
        (["presets"], HEAVY),
    ],
)
def test_listing_imports_little(arguments: list[str], unwanted: set[str]) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['toolkit', *{arguments!r}]\n"
        "from toolkit.cli import main\n"
        "try:\n    main()\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        f"heavy = {unwanted!r} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_installed_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each file: that takes many times as long as to decode a small one."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    data = toolkit.load("jpeg").encode(pixels, 50).data

    def again(group: str) -> None:
        raise AssertionError(f"{group} looked for again")

    monkeypatch.setattr("importlib.metadata.entry_points", again)
    assert toolkit.decode(data).shape == pixels.shape
    assert toolkit.load("jpeg").encode(pixels, 50).data == data
