"""Listings of what there is, options of each, and info of every format."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import pytest
from msgspec import Meta

from toolkit.option_docs import option_docs
from toolkit.options import Options
from toolkit.plugin.loader import load_plugins

Run = Callable[..., tuple[int, str, str]]
PLUGINS = load_plugins()


class Mine(Options, frozen=True):
    """Options of a test."""

    bits: Annotated[int, Meta(ge=1, le=16)] = 10
    """How
    many."""
    shape: Literal["round", "square"] = "round"
    name: str = "circle"
    floor: Annotated[float, Meta(gt=0)] | None = None
    sides: tuple[int, int] = (3, 4)


def test_options_are_told_with_types_ranges_and_defaults() -> None:
    bits, shape, name, floor, sides = option_docs(Mine)
    assert (bits.values, bits.default, bits.about) == ("whole number, 1 to 16", 10, "How many.")
    assert (shape.values, shape.choices) == ("one of round, square", ("round", "square"))
    assert (shape.about, name.about) == ("", "")  # the next one's default is no text about it
    assert (floor.values, floor.default, floor.about) == ("number or null, at least 0", None, "")
    assert (sides.values, sides.default) == ("list of 2 whole numbers", (3, 4))


@pytest.mark.parametrize(
    ("command", "table"),
    [
        ("codecs", PLUGINS.codecs),
        ("models", PLUGINS.entropy_models),
        ("samplers", PLUGINS.samplers),
        ("metrics", PLUGINS.metrics),
    ],
)
def test_everything_is_listed_in_80_columns(
    run: Run, command: str, table: dict[str, object]
) -> None:
    status, out, _ = run(command)
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    heads = [line.split()[0] for line in out.splitlines() if line and line[0] != " "]
    assert heads == list(table)
    assert [row["name"] for row in json.loads(run(command, "--json")[1])] == list(table)
    assert run(command, "no-such")[0] == 2


@pytest.mark.parametrize(
    ("command", "name"),
    [("codecs", n) for n in PLUGINS.codecs if not PLUGINS.codecs[n].missing()]
    + [("samplers", name) for name in PLUGINS.samplers]
    + [("models", name) for name in PLUGINS.entropy_models],
)
def test_options_of_each(run: Run, command: str, name: str) -> None:
    status, out, _ = run(command, name, "--options")
    assert status == 0
    told = json.loads(run(command, name, "--options", "--json")[1])
    assert told["name"] == name
    table = {"codecs": PLUGINS.codecs, "samplers": PLUGINS.samplers}.get(
        command, PLUGINS.entropy_models
    )
    fields = table[name].loaded.options_class.__struct_fields__  # type: ignore[index]
    assert [option["name"] for option in told["options"]] == list(fields)
    assert all(f"  {field}  " in out for field in fields)


def test_options_of_nobody(run: Run) -> None:
    status, _, err = run("samplers", "--options")
    assert (status, err) == (2, "toolkit: --options is told of one: name it\n")


@pytest.mark.parametrize("codec", ["jpeg", "webp", "jpeg2000", "avif", "heic", "jxl", "bpg"])
def test_info_of_native_files(run: Run, photo: Path, tmp_path: Path, codec: str) -> None:
    if PLUGINS.codecs[codec].missing():
        pytest.skip("not installed")
    coded = tmp_path / "coded"
    assert run("encode", photo, coded, "--codec", codec)[0] == 0
    told = json.loads(run("info", coded, "--json")[1])
    assert (told["codec"], told["width"], told["height"], told["mode"]) == (codec, 100, 80, "RGB")
    assert told["bytes"] == coded.stat().st_size
    coded.write_bytes(coded.read_bytes()[:20])
    assert run("info", coded)[0] == 3


@pytest.mark.parametrize("codec", ["pln-fast", "jpeg"])
def test_info_needs_no_torch(run: Run, photo: Path, tmp_path: Path, codec: str) -> None:
    coded = tmp_path / "coded"
    assert run("encode", photo, coded, "--codec", codec)[0] == 0
    script = (
        "import sys\nfrom toolkit.cli import main\nsys.modules['torch'] = None\n"
        f"sys.argv = ['toolkit', 'info', {str(coded)!r}]\nmain()\n"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert "100" in told.stdout
    assert "note" not in told.stdout


def test_what_to_install_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.plugin import specs

    monkeypatch.setattr(specs, "present", lambda module: module != "pillow_jxl")
    status, out, _ = run("codecs", "jxl")
    assert status == 0
    assert "[missing: python:pillow_jxl; extra jxl]" in " ".join(out.split())
    assert "  Extras: pip install 'compression-without-quantization[jxl]'\n" in out
