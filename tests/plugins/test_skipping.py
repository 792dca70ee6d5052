"""Codecs that lack a program or weights: skipped with the reason, in listings and evaluations."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image
from random_models import picture, weights_file

from toolkit import cli
from toolkit.plugin.loader import load_plugins
from toolkit_plugins.compressai.hub import checkpoints, unavailable_reason

ZOO = [name for name in load_plugins().codecs if name.startswith(("bmshj", "mbt", "cheng"))]


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without network and without the zoo's weights; a folder with a picture."""
    import torch

    def download(url: str, *_: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "images").mkdir()
    Image.fromarray(picture(64, 64)).save(tmp_path / "images" / "one.png")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["toolkit", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def evaluate(monkeypatch, folder: Path, *codecs: str, **options: str) -> tuple[int, dict]:
    command = [str(folder / "images"), "--out", str(folder / "out"), "--no-plot"]
    command += ["--json", str(folder / "table.json")]
    for codec in codecs:
        command += ["--codec", codec]
    for key, value in options.items():
        command += ["-o", f"{codecs[-1]}:{key}={value}"]
    command += [part for codec in codecs for part in ("--point", f"{codec}:3")]
    status = run(monkeypatch, "eval", *command)
    file = folder / "table.json"
    return status, json.loads(file.read_text()) if file.exists() else {}


def test_weights_that_cannot_be_fetched(offline, monkeypatch, capsys):
    names = ("jpeg", "mbt2018-mean", "mbt2018-mean-sampled")
    status, table = evaluate(monkeypatch, offline, *names)
    assert status == 0
    assert {row["codec"] for row in table["rows"]} == {"jpeg"}
    assert set(table["skipped"]) == set(names[1:])
    told = capsys.readouterr().err
    for name in names[1:]:
        assert f"toolkit: {name} is skipped: mbt2018-mean-3-" in told
    assert "can't be downloaded" in told
    (file,) = (offline / "out").glob("**/run.json")
    assert set(json.loads(file.read_text())["skipped"]) == set(names[1:])


def test_a_missing_program(offline, monkeypatch):
    monkeypatch.setenv("PATH", str(offline))
    status, table = evaluate(monkeypatch, offline, "jpeg", "bpg-thesis", encoder="bpgenc")
    assert status == 0
    assert table["skipped"] == {"bpg-thesis": "bpg: bpgenc and bpgdec aren't on the PATH"}


def test_nothing_left_to_run(offline, monkeypatch, capsys):
    status, table = evaluate(monkeypatch, offline, "mbt2018-mean")
    assert (status, table) == (4, {})
    assert "can't be downloaded" in capsys.readouterr().err


def test_damaged_weights_are_a_failure(offline, monkeypatch):
    good = weights_file(offline, "mbt2018-mean")
    bad = offline / "bad.safetensors"
    bad.write_bytes(good.read_bytes()[:-100])
    status, table = evaluate(monkeypatch, offline, "jpeg", "mbt2018-mean", weights=str(bad))
    assert status == 5
    assert table["skipped"] == {}
    (failed,) = (row for row in table["rows"] if row["status"] == "error")
    assert "bad.safetensors" in failed["error"]


def test_weights_with_another_hash_are_a_failure(offline, monkeypatch):
    folder = checkpoints()
    folder.mkdir(parents=True)
    (folder / "mbt2018-mean-3-723404a8.pth.tar").write_bytes(b"not these")
    status, table = evaluate(monkeypatch, offline, "jpeg", "mbt2018-mean")
    assert status == 5
    (failed,) = (row for row in table["rows"] if row["status"] == "error")
    assert "SHA-256" in failed["error"]


def test_listing_says_whose_weights_are_not_here(offline, monkeypatch, capsys):
    assert run(monkeypatch, "codecs", "--json") == 0
    known = {codec["name"]: codec for codec in json.loads(capsys.readouterr().out)}
    assert all("weights not here" in known[name]["unavailable_reason"] for name in ZOO)
    assert known["jpeg"]["unavailable_reason"] == ""
    assert run(monkeypatch, "codecs") == 0
    listed = " ".join(capsys.readouterr().out.split())
    (entry,) = re.findall(r" mbt2018-mean \.qf .*?\]", listed)
    assert entry.endswith("[weights not here yet: encoding fetches them, or -o weights=FILE]")


def test_the_zoo_s_file_names_are_known(offline):
    """All of CompressAI's files, each of its own architecture and no other."""
    from toolkit_plugins.compressai.upstream import submodule

    folder = checkpoints()
    folder.mkdir(parents=True)
    seen = 0
    for zoo in ("zoo.image", "zoo.image_vbr"):
        for architecture, by_metric in submodule(zoo).model_urls.items():
            if architecture not in ZOO:
                continue
            for urls in by_metric.values():
                for url in [urls] if isinstance(urls, str) else urls.values():
                    path = folder / url.rpartition("/")[2]
                    path.touch()
                    assert [name for name in ZOO if not unavailable_reason(name)] == [architecture]
                    path.unlink()
                    seen += 1
    assert seen > 80


def test_folder_is_torch_hub_s(offline, monkeypatch):
    import torch

    assert checkpoints() == Path(torch.hub.get_dir()) / "checkpoints"
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(offline / "cache"))
    assert checkpoints() == Path(torch.hub.get_dir()) / "checkpoints"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert checkpoints() == Path(torch.hub.get_dir()) / "checkpoints"


def test_without_anything_missing_nothing_is_said(offline, monkeypatch, capsys):
    status, table = evaluate(monkeypatch, offline, "jpeg")
    assert (status, table["skipped"]) == (0, {})
    assert "skipped" not in capsys.readouterr().err
    assert np.isfinite(table["means"][0]["psnr"])
