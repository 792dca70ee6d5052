"""registry.yaml: presets, inheritance, overrides, errors with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.errors import InputError, MissingError, ToolkitError, UnknownName, UsageError
from toolkit.plugin.loader import Plugins, load_plugins
from toolkit.plugin.presets import find_registry, load_registry, open_codec, parse_override

PRESETS = """\
presets:
  base:
    codec: pln
    options: {level1: {sampler: greedy, bits: 9}, seed: 3}
    sweep: [0, 0.5, 1]
  child:
    extends: base
    summary: one option differs
    options: {level1: {bits: 8}}
  other:
    extends: base
    options: {level1: {sampler: trellis}}
    sweep: [0.25]
"""


@pytest.fixture
def plugins() -> Plugins:
    return load_plugins()


def registry(tmp_path: Path, text: str):  # type: ignore[no-untyped-def]
    file = tmp_path / "registry.yaml"
    file.write_text(text)
    return load_registry(Plugins(), file)


def test_extends_merges_options_key_by_key(tmp_path: Path) -> None:
    child = registry(tmp_path, PRESETS).preset("child")
    assert child.options == {"level1": {"sampler": "greedy", "bits": 8}, "seed": 3}
    assert child.sweep == (0, 0.5, 1)
    assert child.codec == "pln"


def test_another_sampler_brings_its_own_options(tmp_path: Path) -> None:
    assert registry(tmp_path, PRESETS).preset("other").options["level1"] == {"sampler": "trellis"}


def test_overrides_change_the_identity_and_only_where_they_change_options(tmp_path: Path) -> None:
    presets = registry(tmp_path, PRESETS)
    plain = presets.preset("child")
    assert presets.preset("child", {"level1.bits": 8}).identity == plain.identity
    changed = presets.preset("child", {"level1.bits": 7})
    assert changed.options["level1"]["bits"] == 7
    assert changed.identity != plain.identity
    assert presets.preset("child").options["level1"]["bits"] == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("presets:\n  a:\n    codec: pln\n    swep: [1]\n", r":4: no key 'swep'; nearest: sweep"),
        ("preset:\n  a: {codec: pln}\n", r":1: no section 'preset'; nearest: presets"),
        ("presets:\n  a: {codec: pln}\n  a: {codec: jpeg}\n", r":3: preset 'a' is there twice"),
        ("presets:\n  a: {sweep: []}\n", r":2: sweep must be a list of numbers"),
        ("presets:\n  a: {sweep: [x]}\n", r":2: sweep must be a list of numbers"),
        ("presets:\n  a: {options: 3}\n", r":2: options must be a mapping"),
        ("presets:\n  a: 3\n", r":2: a preset must be a mapping"),
        ("presets: [\n", r"registry.yaml"),
        ("", r"a registry must be a mapping"),
    ],
)
def test_mistakes_are_told_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ToolkitError, match=message):
        registry(tmp_path, text)


def test_circles_and_strangers(tmp_path: Path) -> None:
    presets = registry(tmp_path, "presets:\n  a: {extends: b}\n  b: {extends: a}\n  c: {}\n")
    with pytest.raises(UsageError, match="circle"):
        presets.preset("a")
    with pytest.raises(UsageError, match="names no codec"):
        presets.preset("c")
    with pytest.raises(UnknownName, match="no preset 'pln-isg'"):
        presets.preset("pln-isg")
    unknown = registry(tmp_path, "presets:\n  a: {extends: nothing}\n")
    with pytest.raises(UnknownName, match=":2: no preset 'nothing'"):
        unknown.preset("a")


def test_options_are_checked_before_weights_are_looked_for(
    tmp_path: Path, plugins: Plugins
) -> None:
    presets = registry(tmp_path, PRESETS)
    no_weights = {"weights": str(tmp_path / "none.safetensors")}
    for overrides, message in [
        ({"sed": 1}, "no option 'sed'; nearest: seed"),
        ({"seed": 256}, "seed"),
        ({"seed": "x"}, "seed"),
        ({"level1.bitz": 4}, "no option 'bitz'; nearest: bits"),
        ({"level1.bits": 99}, "level1: .*bits"),
        ({"level1": {"sampler": "greedi"}}, "no sampler 'greedi'; nearest: greedy"),
    ]:
        with pytest.raises(UsageError, match=message):
            open_codec(plugins, presets.preset("base", {**no_weights, **overrides}))


def test_a_sweep_outside_the_knob_is_refused(tmp_path: Path, plugins: Plugins) -> None:
    presets = registry(tmp_path, "presets:\n  a: {codec: jpeg, sweep: [50, 101]}\n")
    with pytest.raises(UsageError, match=r":2: quality must be 1 to 100, not 101"):
        open_codec(plugins, presets.preset("a"))


def test_every_shipped_preset_opens(plugins: Plugins) -> None:
    presets = load_registry(plugins, Path(__file__).parents[2] / "registry.yaml")
    for name in presets.names():
        preset = presets.preset(name)
        if not plugins.codec(preset.codec).missing():
            open_codec(plugins, preset)
        assert preset.sweep
        assert preset.summary


def test_where_the_registry_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "registry.yaml").write_text(PRESETS)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert find_registry() == tmp_path / "registry.yaml"
    monkeypatch.setenv("TOOLKIT_REGISTRY", str(tmp_path / "none.yaml"))
    with pytest.raises(MissingError):
        find_registry()
    with pytest.raises(InputError):
        load_registry(Plugins(), _binary(tmp_path / "x.yaml"))


def _binary(path: Path) -> Path:
    path.write_bytes(b"\xff\xfe\x00")
    return path


def test_parse_override() -> None:
    assert parse_override("a.b=3") == ("a.b", 3)
    assert parse_override("a=[1, 2]") == ("a", [1, 2])
    for bad in ("a", "=3", "a=[1"):
        with pytest.raises(UsageError):
            parse_override(bad)
