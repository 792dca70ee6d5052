"""Weights: from the zoo, from files of theirs and of ours; and what is said when they aren't."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from urllib.error import URLError

import pytest
from PIL import Image
from random_models import picture, random_model, weights_file

from toolkit.cli import main
from toolkit.errors import InputError, MissingError, UsageError
from toolkit_plugins.compressai import upstream
from toolkit_plugins.compressai.checkpoints import Source, load_network, locate

NAME = "mbt2018-mean"


def source(path, **fields):
    return Source(NAME, 3, weights=str(path), **fields)


@pytest.fixture(autouse=True)
def _nothing_cached():
    load_network.cache_clear()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path / "checkpoints"


def same(network, model):
    theirs = model.state_dict()
    return all((network.model.state_dict()[key] == value).all() for key, value in theirs.items())


def test_our_checkpoint(tmp_path):
    model = random_model(NAME)
    network = load_network(source(weights_file(tmp_path, NAME)))
    model.update()
    assert same(network, model)


def test_their_checkpoint(tmp_path):
    import torch

    model = random_model(NAME)
    model.update()
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 7}, tmp_path / "theirs.pth.tar")
    theirs = load_network(source(tmp_path / "theirs.pth.tar"))
    ours = load_network(source(weights_file(tmp_path, NAME)))
    assert theirs.fingerprint == ours.fingerprint
    assert same(theirs, model)


def test_one_command_puts_their_weights_in_the_table_of_ours(tmp_path, monkeypatch):
    """Checkpoints as CompressAI's training leaves them, one a quality, beside another codec."""
    import torch

    for quality in (1, 2):
        model = random_model(NAME, seed=quality)
        model.update()
        state = {"state_dict": model.state_dict(), "epoch": 7}
        torch.save(state, tmp_path / f"{NAME}-{quality}.pth.tar")
    Image.fromarray(picture(80, 96)).save(tmp_path / "a.png")
    line = f"eval --codec {NAME} --codec jpeg --point {NAME}:1 --point {NAME}:2 --point jpeg:50"
    given = f"{NAME}:weights={tmp_path / NAME}-{{quality}}.pth.tar"
    more = ["-o", given, "a.png", "--no-plot", "--json", "table.json"]
    monkeypatch.setattr(sys, "argv", ["toolkit", *line.split(), *more])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [(row["codec"], row["point"]) for row in rows] == [(NAME, 1), (NAME, 2), ("jpeg", 50)]
    assert all(row["status"] == "ok" and row["psnr"] is not None for row in rows)
    assert len({row["file_sha256"] for row in rows}) == 3


def test_fingerprints_tell_weights_apart(tmp_path):
    first, second = (load_network(source(weights_file(tmp_path, NAME, seed))) for seed in (0, 1))
    assert first.fingerprint != second.fingerprint


def test_the_quality_in_a_file_name(tmp_path):
    path = weights_file(tmp_path, NAME)
    path.rename(tmp_path / "w-3.safetensors")
    assert locate(source(tmp_path / "w-{quality}.safetensors")).name == "w-3.safetensors"


def test_hash_given_and_hash_in_the_name(tmp_path):
    path = weights_file(tmp_path, NAME)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    load_network(source(path, sha256=digest[:16]))
    with pytest.raises(InputError, match="SHA-256"):
        load_network(source(path, sha256="0" * 16))
    right = path.rename(tmp_path / f"w-{digest[:8]}.safetensors")
    load_network(source(right))
    wrong = right.rename(tmp_path / "w-0badf00d.safetensors")
    with pytest.raises(InputError, match="SHA-256"):
        load_network(source(wrong))


def test_files_that_are_no_weights(tmp_path):
    for name in ("a.safetensors", "a.pth.tar"):
        (tmp_path / name).write_bytes(b"not weights at all")
        with pytest.raises(InputError, match="not a"):
            load_network(source(tmp_path / name))
    with pytest.raises(MissingError, match="no such"):
        load_network(source(tmp_path / "none.safetensors"))


def test_pickles_run_no_code(tmp_path):
    import torch

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    buffer = io.BytesIO()
    torch.save({"state_dict": {"g_a.0.weight": Bomb()}}, buffer)
    (tmp_path / "bomb.pth").write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match="plain tensors"):
        load_network(source(tmp_path / "bomb.pth"))
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_architecture(tmp_path):
    path = weights_file(tmp_path, "bmshj2018-factorized")
    with pytest.raises(UsageError, match="bmshj2018-factorized"):
        load_network(source(path))


def test_the_zoo_offline_says_which_file_goes_where(hub, monkeypatch):
    import torch

    def offline(*_args, **_kwargs):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(MissingError) as caught:
        load_network(Source(NAME, 3))
    for words in ("mbt2018-mean-3-723404a8.pth.tar", str(hub), "no network", "weights"):
        assert words in str(caught.value)


def test_the_zoo_downloads_and_checks(hub, monkeypatch):
    import torch

    model = random_model(NAME)
    model.update()
    fetched = []

    def fetch(url, path, prefix):
        fetched.append((url.rpartition("/")[2], prefix))
        torch.save(model.state_dict(), path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    with pytest.raises(InputError, match="SHA-256"):  # random weights aren't the zoo's
        load_network(Source(NAME, 3))
    assert fetched == [("mbt2018-mean-3-723404a8.pth.tar", "723404a8")]


def test_every_quality_and_metric_has_its_file(hub):
    hub.mkdir()
    for architecture, count in ((NAME, 8), ("cheng2020-attn", 6)):
        for metric in ("mse", "ms-ssim"):
            for quality in range(1, count + 1):
                url = upstream.submodule("zoo.image").model_urls[architecture][metric][quality]
                (hub / url.rpartition("/")[2]).touch()
                path = locate(Source(architecture, quality, metric))
                assert path.name == url.rpartition("/")[2]
    with pytest.raises(MissingError, match="ms-ssim"):
        locate(Source("mbt2018-vbr", 0, "ms-ssim"))


def test_a_broken_compressai_is_one_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "compressai", None)
    upstream.compressai.cache_clear()
    try:
        with pytest.raises(MissingError, match="CompressAI can't be used"):
            upstream.compressai()
    finally:
        upstream.compressai.cache_clear()


def test_listing_imports_neither_torch_nor_compressai():
    code = (
        "import sys; from toolkit.plugin.loader import load_plugins; p = load_plugins(); "
        "assert 'mbt2018' in p.codecs; print(not {'torch', 'compressai'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "True"
