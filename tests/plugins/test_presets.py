"""registry.yaml: presets, inheritance, overrides, errors with their place."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from toolkit.errors import InputError, MissingError, ToolkitError, UnknownName, UsageError
from toolkit.plugin.loader import Plugins, load_plugins
from toolkit.plugin.presets import (
    came_upon,
    find_registry,
    load_registry,
    open_codec,
    parse_override,
)

PRESETS = """\
presets:
  base:
    codec: pln
    options: {levels: {level1: {sampler: greedy, bits: 9}}, seed: 3}
    sweep: [0, 0.5, 1]
  child:
    extends: base
    summary: one option differs
    options: {levels: {level1: {bits: 8}}}
  other:
    extends: base
    options: {levels: {level1: {sampler: trellis}}}
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
    assert child.options == {"levels": {"level1": {"sampler": "greedy", "bits": 8}}, "seed": 3}
    assert child.sweep == (0, 0.5, 1)
    assert child.codec == "pln"


def test_another_sampler_brings_its_own_options(tmp_path: Path) -> None:
    assert registry(tmp_path, PRESETS).preset("other").options["levels"]["level1"] == {
        "sampler": "trellis"
    }


def test_overrides_change_the_identity_and_only_where_they_change_options(tmp_path: Path) -> None:
    presets = registry(tmp_path, PRESETS)
    plain = presets.preset("child")
    assert presets.preset("child", {"levels.level1.bits": 8}).identity == plain.identity
    changed = presets.preset("child", {"levels.level1.bits": 7})
    assert changed.options["levels"]["level1"]["bits"] == 7
    assert changed.identity != plain.identity
    assert presets.preset("child").options["levels"]["level1"]["bits"] == 8


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


def bomb(last: str) -> str:
    """Nine lines that mean 10^9 values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    return "presets:\n  p:\n    codec: pln\n    options:\n      " + "\n      ".join([*lines, last])


def merging(count: int) -> str:
    """Merge keys, each twice the one before."""
    lines = ["a0: &a0 {x: 1, y: 2}"]
    lines += [f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, count)]
    return "presets:\n  p:\n    codec: pln\n    options:\n      " + "\n      ".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (bomb("b: 1"), "more than 10000 values"),
        (merging(40), "more than 10000 values"),
        ("presets: &a\n  p: {codec: pln, options: {x: *a}}\n", "alias that stands within itself"),
        ("presets:\n  p: {options: {x: " + "[" * 60 + "]" * 60 + "}}\n", "more than 50 deep"),
        ("presets:\n  p: {options: {x: " + "[" * 5000 + "]" * 5000 + "}}\n", "more than 50 deep"),
        ("#" * 2**20 + "\npresets: {}\n", "more than 1048576 characters"),
        ("presets:\n  p: {options: {x: !!python/object/apply:os.system [ls]}}\n", ":2: options: "),
        ("presets:\n  p: {options: {x: !mine 3}}\n", ":2: options: could not determine"),
        ("presets:\n  p: {options: {x: !!binary aGk=}}\n", ":2: options: a bytes, where"),
        ("presets:\n  p: {options: {x: 2001-01-01}}\n", ":2: options: a date, where"),
        ("presets:\n  p: {options: {x: 2001-99-99}}\n", ":2: options: month must be"),
        ("presets:\n  p: {options: {x: !!set {a}}}\n", ":2: options: a set, where"),
        ("presets:\n  p: {options: {x: .inf}}\n", ":2: options: inf is no number"),
        ("presets:\n  p: {options: {x: 1" + "0" * 5000 + "}}\n", ":2: options: "),
        ("presets:\n  p: {options: {3: 4}}\n", ":2: options: '3' is no name"),
        ("presets:\n  p: {options: {x: {~: 4}}}\n", ":2: options: 'None' is no name"),
        ("presets:\n  p: {options: {? [a] : 4}}\n", ":2: options: while constructing"),
        ("presets:\n  p: {? [codec] : pln}\n", ":2: a key of a preset must be a name"),
        ("presets:\n  ? {a: b}\n  : {codec: pln}\n", ":2: a key of presets must be a name"),
        ("? [presets]\n: {}\n", ":1: a key of a registry must be a name"),
        ("presets: {}\n--- \npresets: {}\n", "expected a single document"),
        ('presets:\n  p: {codec: "a\x07b"}\n', "special characters are not allowed"),
    ],
)
def test_odd_yaml_is_one_short_line(tmp_path: Path, text: str, message: str) -> None:
    start = time.process_time()
    with pytest.raises(ToolkitError) as caught:
        registry(tmp_path, text)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "registry.yaml"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert time.process_time() - start < 5


def test_aliases_may_be_used(tmp_path: Path) -> None:
    text = (
        "presets:\n  a: {codec: pln, options: &o {seed: 3}, sweep: &s [0, 1]}\n"
        "  b: {codec: pln, options: {<<: *o, effort: 2}, sweep: *s}\n"
    )
    b = registry(tmp_path, text).preset("b")
    assert (b.options, b.sweep) == ({"seed": 3, "effort": 2}, (0, 1))


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
        ({"levels.level1.bitz": 4}, "no option 'bitz'; nearest: bits"),
        ({"levels.level1.bits": 99}, "level1: .*bits"),
        ({"levels.level1": {"sampler": "greedi"}}, "no sampler 'greedi'; nearest: greedy"),
    ]:
        with pytest.raises(UsageError, match=message):
            open_codec(plugins, presets.preset("base", {**no_weights, **overrides}))


def test_a_sweep_outside_the_range_is_refused(tmp_path: Path, plugins: Plugins) -> None:
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


def test_a_registry_that_lies_about_is_told_from_one_that_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "registry.yaml").write_text(PRESETS)
    assert not came_upon(Path(__file__).parents[2] / "registry.yaml")
    assert came_upon(tmp_path / "registry.yaml")
    monkeypatch.setenv("TOOLKIT_REGISTRY", str(tmp_path / "registry.yaml"))
    assert not came_upon(find_registry())


def test_a_file_of_ones_own_comes_on_top_of_what_ships(tmp_path: Path) -> None:
    text = PRESETS + "  pln-fast: {codec: pln, sweep: [1], summary: mine}\n"
    text += "  quick: {extends: pln, options: {refinement_steps: 0}}\n"
    presets = registry(tmp_path, text)
    assert presets.preset("pln-fast").summary == "mine"
    assert presets.preset("quick").sweep == presets.preset("pln").sweep
    assert presets.preset("pln").source.startswith(str(Path(__file__).parents[2]))
    assert presets.default == "pln"
    assert registry(tmp_path, "default: child\n" + PRESETS).default == "child"


def test_a_file_may_leave_out_what_ships(tmp_path: Path) -> None:
    presets = registry(tmp_path, "shipped: false\n" + PRESETS)
    assert presets.names() == ["base", "child", "other"]
    with pytest.raises(UsageError, match="no default preset"):
        _ = presets.default
    with pytest.raises(UsageError, match=":1: shipped must be true or false"):
        registry(tmp_path, "shipped: perhaps\n" + PRESETS)


def _binary(path: Path) -> Path:
    path.write_bytes(b"\xff\xfe\x00")
    return path


def test_parse_override() -> None:
    assert parse_override("a.b=3") == ("a.b", 3)
    assert parse_override("a=[1, 2]") == ("a", [1, 2])
    assert parse_override("a=") == ("a", None)
    assert parse_override("chroma=4:4:4") == ("chroma", "4:4:4")  # no number to the base 60
    assert parse_override("a={chroma: 4:2:0, b: 1:30.5}") == (
        "a",
        {"chroma": "4:2:0", "b": "1:30.5"},
    )
    odd = ("a=!!python/name:os.system", "a=2001-01-01", "a={1: 2}", "a=.nan", "a=" + "[" * 3000)
    for bad in ("a", "=3", "a=[1", *odd):
        with pytest.raises(UsageError):
            parse_override(bad)
