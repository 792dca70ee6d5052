"""Weights by URL: fetched once, checked by their hash, and never because a file asks for them."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from file_server import FileServer, serving
from random_models import picture, weights_file

import toolkit
from toolkit import download
from toolkit.api import decode_file
from toolkit.cli import main
from toolkit.codec.base import DecodeSettings
from toolkit.errors import InputError, MissingError, ToolkitError, UsageError
from toolkit.format import weights_url
from toolkit.format.errors import OtherModel
from toolkit.format.weights_url import WeightsUrl, fetched_weights, locate_weights
from toolkit.training.recipe import Objective, Start
from toolkit.training.start import begin_with

GOLDEN = Path(__file__).parents[1] / "golden" / "pln"
CODED, WEIGHTS = GOLDEN / "greedy-RGB-1x1.qf", (GOLDEN / "weights.safetensors").read_bytes()
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()
ZEROS = "0" * 64
FAST = {"refinement_steps": 0, "levels.default.nu": 8}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Has the weights at ``/w/mine.safetensors``, and as a hub; nothing is in the cache yet."""
    with serving() as found:
        monkeypatch.setenv("TOOLKIT_DATA", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        monkeypatch.setenv("no_proxy", "*")
        found.answers["/w/mine.safetensors"] = WEIGHTS
        found.answers["/me/nets/resolve/v1.0/small/mine.safetensors"] = "/w/mine.safetensors"
        yield found


def url(server: FileServer, digest: str = DIGEST) -> str:
    return f"{server.url}/w/mine.safetensors#sha256={digest}"


def kept(tmp_path: Path) -> list[str]:
    folder = tmp_path / "cache"
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.name != ".lock")


def test_a_file_is_fetched_once(server: FileServer, tmp_path: Path) -> None:
    first = locate_weights(url(server))
    assert first.read_bytes() == WEIGHTS
    assert first == tmp_path / "cache" / "weights" / DIGEST / "mine.safetensors"
    assert locate_weights(url(server, DIGEST.upper()), download=False) == first
    assert server.asked == ["/w/mine.safetensors"]
    assert list(fetched_weights()) == [first]


def test_one_of_the_hub(server: FileServer) -> None:
    """By way of a redirect, as the Hub does it."""
    path = locate_weights(f"hf://me/nets/small/mine.safetensors@v1.0#sha256={DIGEST}")
    assert path.read_bytes() == WEIGHTS
    assert server.asked == ["/me/nets/resolve/v1.0/small/mine.safetensors", "/w/mine.safetensors"]


def test_where_the_hub_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    behind = f"#sha256={DIGEST}"
    for name, wanted in (
        ("hf://o/r/f.safetensors", "o/r/resolve/main/f.safetensors"),
        ("hf://o/r/a/b c.safetensors@refs/pr/1", "o/r/resolve/refs%2Fpr%2F1/a/b%20c.safetensors"),
    ):
        assert WeightsUrl.parse(name + behind).url == f"https://huggingface.co/{wanted}"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("https://host/f.safetensors", "SHA-256 is missing"),
        ("https://host/f.safetensors#sha256=12ab", "SHA-256 is missing"),
        ("hf://o/r/f.safetensors@main", "SHA-256 is missing"),
        (f"hf://o/f.safetensors#sha256={ZEROS}", "are written"),
        (f"ftp://host/f.safetensors#sha256={ZEROS}", "are written"),
        (f"file:///etc/passwd#sha256={ZEROS}", "are written"),
        (f"https:///f.safetensors#sha256={ZEROS}", "are written"),
    ],
)
def test_urls_that_are_none(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        locate_weights(name)


def test_names_of_files_stay_in_their_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_DATA", "cache")
    for name in ("https://h/..", "https://h/%2e%2e", "https://h/a%2F..%2Fb", "https://h/?a=/../x"):
        path = WeightsUrl.parse(f"{name}#sha256={ZEROS}").path
        assert path.parent == Path("cache/weights") / ZEROS
        assert re.fullmatch(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]*", path.name)


# -- what can go wrong ---------------------------------------------------------------------


def test_another_file_than_the_hash_says_is_not_kept(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"SHA-256 is {DIGEST}, not {ZEROS}"):
        locate_weights(url(server, ZEROS))
    assert kept(tmp_path) == []


def test_a_file_that_was_damaged_since_is_fetched_again(server: FileServer) -> None:
    path = locate_weights(url(server))
    path.write_bytes(WEIGHTS[:-1])
    with pytest.raises(MissingError, match="aren't here"):
        locate_weights(url(server), download=False)
    assert locate_weights(url(server)).read_bytes() == WEIGHTS


@pytest.mark.parametrize("answer", [404, 500])
def test_a_server_that_has_no_such_file(server: FileServer, tmp_path: Path, answer: int) -> None:
    server.answers["/w/mine.safetensors"] = answer
    with pytest.raises(MissingError, match=rf"can't be fetched \({answer} .*name the file instead"):
        locate_weights(url(server))
    assert kept(tmp_path) == []


def test_a_connection_that_breaks_off(server: FileServer, tmp_path: Path) -> None:
    server.breaks_off = True
    with pytest.raises(MissingError, match="broke off"):
        locate_weights(url(server))
    assert kept(tmp_path) == []


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    with serving() as gone:
        address = url(gone)
    with pytest.raises(MissingError, match=r"can't be fetched .*refused"):
        locate_weights(address)


def test_a_server_that_says_nothing(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    released = threading.Event()
    real = server.process_request

    def slow(request: object, address: object) -> None:
        released.wait(5)
        real(request, address)  # type: ignore[arg-type]

    monkeypatch.setattr(server, "process_request", slow)
    try:
        with pytest.raises(MissingError, match="timed out"):
            locate_weights(url(server))
    finally:
        released.set()


def test_a_file_without_end(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_url, "LIMIT", 1000)
    with pytest.raises(InputError, match="more than the 1000 bytes"):
        locate_weights(url(server))


def test_a_cache_that_can_not_be_written(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TOOLKIT_DATA", str(tmp_path / "file"))
    with pytest.raises(InputError, match="can't write there"):
        locate_weights(url(server))


def test_of_several_at_once_one_fetches(server: FileServer) -> None:
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(locate_weights(url(server)))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == len(server.asked) == 1


# -- coding --------------------------------------------------------------------------------


def test_a_codec_encodes_with_them_and_the_file_decodes_where_they_are(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    codec = toolkit.load("pln", {**FAST, "weights": url(server)})
    encoded = codec.encode(picture(40, 56), 0.5)
    assert len(server.asked) == 1
    np.testing.assert_array_equal(toolkit.decode(encoded.data), codec.decode(encoded.data).pixels)

    monkeypatch.setenv("TOOLKIT_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(OtherModel, match="--weights"):
        toolkit.decode(encoded.data)
    there = DecodeSettings(weights=url(server))
    for refused in (lambda: decode_file(encoded.data, there), lambda: codec.decode(encoded.data)):
        with pytest.raises(MissingError, match="--download"):
            refused()
    assert len(server.asked) == 1
    decode_file(encoded.data, DecodeSettings(weights=url(server), download=True))
    assert len(server.asked) == 2


def test_a_hash_of_other_weights_is_no_way_in(server: FileServer, tmp_path: Path) -> None:
    other = (GOLDEN.parent / "vae" / "weights.safetensors").read_bytes()
    server.answers["/other"] = other
    name = f"{server.url}/other#sha256={hashlib.sha256(other).hexdigest()}"
    with pytest.raises(ToolkitError, match="made with weights"):
        decode_file(CODED.read_bytes(), DecodeSettings(weights=name, download=True))


def test_models_and_recipes_take_them(server: FileServer) -> None:
    model = toolkit.load_model(url(server), options=FAST)
    assert model.name == "pln"
    state = {key: value.clone() for key, value in model.model.state_dict().items()}
    with torch.no_grad():
        for value in model.parameters():
            value.zero_()
    begin_with(model.model, "pln", Start(weights=url(server)), Objective())
    assert all(torch.equal(state[key], value) for key, value in model.model.state_dict().items())
    assert len(server.asked) == 1


@pytest.fixture
def program(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int | str | None, str]]:
    def call(*arguments: object) -> tuple[int | str | None, str]:
        monkeypatch.setattr(sys, "argv", ["toolkit", *map(str, arguments)])
        try:
            main()
        except SystemExit as stop:
            return stop.code, capsys.readouterr().err
        return 0, capsys.readouterr().err

    return call


def test_on_the_command_line(
    server: FileServer, tmp_path: Path, program: Callable[..., tuple[int | str | None, str]]
) -> None:
    coded = shutil.copy(CODED, tmp_path / "a.qf")
    decode = ("decode", coded, tmp_path / "a.png", "--weights", url(server))
    status, told = program(*decode)
    assert status == 4
    assert "--download" in told
    assert server.asked == []
    assert program(*decode, "--download")[0] == 0
    bare = ("-o", "weights=https://h/f.safetensors")
    status, told = program("encode", tmp_path / "a.png", tmp_path / "b.qf", *bare)
    assert status == 2
    assert told.count("\n") == 1
    assert "sha256=HEX" in told
    encode = ("encode", tmp_path / "a.png", tmp_path / "b.qf", "--codec", "pln-fast", "--point")
    assert program(*encode, 0.5, "-o", f"weights={url(server)}")[0] == 0
    assert program("decode", tmp_path / "b.qf", tmp_path / "b.png")[0] == 0
    assert len(server.asked) == 1


# -- CompressAI ----------------------------------------------------------------------------


def test_compressais_codecs_keep_the_rule(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = weights_file(tmp_path, "bmshj2018-factorized", 0)
    server.answers["/f.safetensors"] = content = path.read_bytes()
    name = f"{server.url}/f.safetensors#sha256={hashlib.sha256(content).hexdigest()}"
    codec = toolkit.load("bmshj2018-factorized", {"weights": name})
    data = codec.encode(picture(64, 64), 3).data
    monkeypatch.setenv("TOOLKIT_DATA", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "none"))
    with pytest.raises(MissingError, match=r"zoo .*--download"):
        toolkit.decode(data)
    with pytest.raises(MissingError, match="--download"):
        codec.decode(data)
    assert len(server.asked) == 1
    shown = codec.decode(data, DecodeSettings(download=True)).pixels
    assert shown.shape == (64, 64, 3)
