"""What a plugin's parts must be, and `toolkit plugins --check`, which loads them all."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.cli import main
from toolkit.errors import MissingError, PluginError
from toolkit.plugin.loader import load_plugins

HEAD = """
from toolkit.plugin import (
    Codec, CodecSpec, EntropyModelSpec, LadderModel, MetricSpec, Options, PresetFile, Sampler,
    SamplerSpec, hookimpl
)
"""
KINDS = {
    "sampler": ("toolkit_samplers", "SamplerSpec"),
    "codec": ("toolkit_codecs", "CodecSpec"),
    "metric": ("toolkit_metrics", "MetricSpec"),
    "entropy model": ("toolkit_entropy_models", "EntropyModelSpec"),
}
WRONG = {
    "a function": (
        "sampler", "def Thing(): ...",
        "is no class: it must be a subclass of Sampler (toolkit.sampling.contract:Sampler)",
    ),
    "another class": (
        "sampler", "class Thing:\n    def encode(self): ...",
        "is no subclass of Sampler (toolkit.sampling.contract:Sampler), and lacks decode",
    ),
    "half a sampler": (
        "sampler", "class Thing(Sampler):\n    def decode(self): ...", "lacks encode"
    ),
    "half a codec": ("codec", "class Thing(Codec): ...", "lacks decode, encode_pixels"),
    "a codec that is a sampler": (
        "codec", "class Thing(Sampler): ...", "is no subclass of Codec (toolkit.codec.base:Codec)"
    ),
    "a metric of one picture": (
        "metric", "def Thing(picture): ...", "doesn't take two pictures: (original, decoded)"
    ),
    "a metric that is a number": ("metric", "Thing = 3", "is no function"),
    "a model that is a function": (
        "entropy model", "def Thing(): ...", "is no class: it must be an nn.Module"
    ),
    "a model that doesn't train": (
        "entropy model", "class Thing: ...", "lacks options_class, training_pass"
    ),
    "half a ladder": (
        "entropy model", "class Thing(LadderModel): ...",
        "lacks analyse, descend, level, reconstruct, start",
    ),
    "nothing": ("metric", "", "isn't there"),
}  # fmt: skip


def write(folder: Path, name: str, kind: str, body: str, factory: str) -> Path:
    hook, spec = KINDS[kind]
    path = folder / f"{name}.py"
    path.write_text(
        f"{HEAD}\n{body}\n\n@hookimpl\ndef {hook}():\n    yield {spec}('mine', '', {factory})\n"
    )
    return path


def test_every_name_for_authors_is_there() -> None:
    import toolkit.plugin

    stub = (Path(toolkit.plugin.__file__).parent / "__init__.pyi").read_text()
    for name in [line.split()[-1] for line in stub.splitlines() if line.startswith("from")]:
        assert hasattr(toolkit.plugin, name), name


@pytest.mark.parametrize("what", WRONG)
def test_a_single_file_is_checked_when_it_is_loaded(what: str, tmp_path: Path) -> None:
    kind, body, message = WRONG[what]
    path = write(tmp_path, "wrong", kind, body, 'f"{__name__}:Thing"')
    plugins = load_plugins([path])
    (problem,) = plugins.problems
    assert problem.error.startswith(f"TypeError: {kind} 'mine': Thing {message}")
    assert problem.origin == str(path)
    assert not problem.provides


@pytest.mark.parametrize("what", [what for what in WRONG if what != "nothing"])
def test_a_lazy_part_is_checked_when_it_is_used(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, body, message = WRONG[what]
    (tmp_path / "lazy_part.py").write_text(f"{HEAD}\n{body}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lazy_part", raising=False)
    plugins = load_plugins([write(tmp_path, "lazy", kind, "", '"lazy_part:Thing"')])
    assert plugins.problems == []
    find = {"sampler": plugins.sampler, "codec": plugins.codec, "metric": plugins.metric}
    look_up: Callable[[str], object] = find.get(kind, plugins.entropy_model)
    with pytest.raises(PluginError) as error:
        _ = look_up("mine").loaded  # type: ignore[attr-defined]
    assert f"plugin lazy ({tmp_path / 'lazy.py'}): {kind} 'mine': lazy_part:Thing {message}" in str(
        error.value
    )


def listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["toolkit", "plugins", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0), capsys.readouterr().out
    return 0, capsys.readouterr().out


def test_check_finds_nothing_wrong_with_what_is_built_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out = listed(monkeypatch, capsys, "--check")
    assert status == 0
    assert "pln (built-in): ok" in out
    assert "broken" not in out


@pytest.mark.parametrize(
    ("kind", "factory", "message"),
    [
        ("sampler", '"lazy_class:X"', "lazy_class:X is no subclass of Sampler"),
        ("sampler", '"nowhere_at_all:X"', "can't be loaded: No module named"),
        ("metric", '"lazy_bomb:X"', "can't be loaded: RuntimeError: two lines, told as one"),
        ("metric", '"lazy_exit:X"', "can't be loaded: SystemExit: 3"),
        (
            "entropy model",
            '"toolkit_plugins.pln.vae:VAE", codec="lazy_class:X"',
            "lazy_class:X is no subclass of Codec",
        ),
    ],
)
def test_check_loads_everything(
    kind: str,
    factory: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "lazy_bomb.py").write_text("raise RuntimeError('two lines,\\ntold as one')")
    (tmp_path / "lazy_exit.py").write_text("raise SystemExit(3)")
    (tmp_path / "lazy_class.py").write_text("class X: ...")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lazy_class", raising=False)
    path = write(tmp_path, "wrong", kind, "", factory)
    status, out = listed(monkeypatch, capsys, "--plugin", path, "--check")
    assert status == 5
    assert f"wrong ({path}): 1 broken\n    {kind} mine: {message}" in out
    monkeypatch.delitem(sys.modules, "lazy_class", raising=False)
    status, out = listed(monkeypatch, capsys, "--plugin", path, "--check", "--json")
    (record,) = [r for r in json.loads(out) if r["name"] == "wrong"]
    assert message in record["broken"][f"{kind} mine"]
    assert status == 5
    monkeypatch.delitem(sys.modules, "lazy_class", raising=False)
    assert listed(monkeypatch, capsys, "--plugin", path)[0] == 0  # a list of names loads nothing


def test_what_is_not_installed_is_not_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, "wants", "metric", "", '"nowhere:X", needs=("no-such-program",)')
    status, out = listed(monkeypatch, capsys, "--plugin", path, "--check")
    assert status == 0
    assert f"wants ({path}): ok\n    metric mine: needs no-such-program: not installed" in out
    with pytest.raises(MissingError):
        _ = load_plugins([path]).metric("mine").loaded


def test_presets_that_are_not_there_and_plugins_left_out_are_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    presets = tmp_path / "presets.py"
    presets.write_text(
        f"{HEAD}\n@hookimpl\ndef toolkit_presets():\n    yield PresetFile('nowhere.yaml')\n"
    )
    status, out = listed(monkeypatch, capsys, "--plugin", presets, "--check")
    assert status == 5
    assert "    presets nowhere.yaml: no such file" in out
    raises = tmp_path / "raises.py"
    raises.write_text("1 / 0")
    status, out = listed(monkeypatch, capsys, "--plugin", raises, "--check")
    assert status == 5
    assert "ZeroDivisionError" in out
