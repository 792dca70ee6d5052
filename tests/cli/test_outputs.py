"""Where encode, decode and info read and write: files, standard streams, devices; nothing lost."""

from __future__ import annotations

import ctypes
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolkit.format.container import Container, Stream, write_container

Run = Callable[..., tuple[int, str, str]]
JPEG = ("--codec", "jpeg")
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's devices")


def program(*arguments: object, **more: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "toolkit", *map(str, arguments)]
    more.setdefault("stdout", subprocess.PIPE)
    return subprocess.run(command, stderr=subprocess.PIPE, **more)  # type: ignore[call-overload, no-any-return]


def one_line(err: str) -> bool:
    return err.startswith("toolkit: ") and err.count("\n") == 1 and "Traceback" not in err


@pytest.fixture
def coded(run: Run, photo: Path, tmp_path: Path) -> Path:
    assert run("encode", photo, tmp_path / "photo.jpg", *JPEG)[0] == 0
    return tmp_path / "photo.jpg"


def test_nothing_is_replaced_without_force(
    run: Run, photo: Path, coded: Path, tmp_path: Path
) -> None:
    shown = tmp_path / "shown.png"
    shown.write_bytes(b"mine")
    for command in (["encode", photo, coded, *JPEG], ["decode", coded, shown]):
        before = Path(command[2]).read_bytes()
        status, _, err = run(*command)
        assert (status, one_line(err)) == (2, True)
        assert "there already; --force replaces it" in err
        assert Path(command[2]).read_bytes() == before
    assert run("decode", coded, shown, "--force")[0] == 0
    assert Image.open(shown).size == (100, 80)
    assert run("encode", photo, coded, *JPEG, "--point", 5, "-f")[0] == 0


def test_the_input_is_never_replaced(run: Run, coded: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.jpg"
    link.symlink_to(coded)
    hard = tmp_path / "hard.png"
    os.link(coded, hard)
    for command in (
        ["encode", coded, coded, *JPEG], ["encode", coded, link, *JPEG], ["decode", coded, hard],
    ):  # fmt: skip
        before = Path(command[1]).read_bytes()
        status, _, err = run(*command, "--force")
        assert (status, one_line(err)) == (2, True)
        assert "it is the input" in err
        assert Path(command[1]).read_bytes() == before


def test_folders_are_refused(run: Run, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for command in (["encode", photo, tmp_path], ["decode", photo, tmp_path / "folder.png"]):
        status, _, err = run(*command, "--force")
        assert (status, one_line(err)) == (2, True)
        assert "a folder" in err


@linux
def test_devices_are_written_to(run: Run, photo: Path, coded: Path) -> None:
    assert run("encode", photo, "/dev/null", *JPEG)[0] == 0
    assert Path("/dev/null").is_char_device()
    status, _, err = run("encode", photo, "/dev/full", *JPEG)
    assert (status, one_line(err)) == (5, True)
    assert "/dev/full: can't be written (No space left on device)" in err


def test_standard_streams(run: Run, photo: Path, coded: Path) -> None:
    encode = program("encode", "-", "-", *JPEG, input=photo.read_bytes())
    assert (encode.returncode, encode.stdout) == (0, coded.read_bytes()), encode.stderr
    assert encode.stderr.startswith(b"standard output: 100x80")
    decode = program("decode", "-", "-", input=encode.stdout)
    assert decode.returncode == 0, decode.stderr
    assert Image.open(io.BytesIO(decode.stdout)).format == "PNG"
    decode = program("decode", "-", "-", "--format", "tif", "--json", input=encode.stdout)
    assert Image.open(io.BytesIO(decode.stdout)).format == "TIFF"
    assert json.loads(decode.stderr)["mode"] == "RGB"
    empty = program("encode", "-", "-", *JPEG, input=b"")
    assert (empty.returncode, empty.stdout) == (3, b"")
    assert empty.stderr.startswith(b"toolkit: standard input: not an image")


def test_info_reads_standard_input() -> None:
    data = write_container(Container(4, 4, "RGB", "pln", 1, bytes(8), b"", (Stream("a", b"b"),)))
    told = program("info", "-", "--json", input=data)
    assert json.loads(told.stdout)["bytes"] == len(data)


def test_pictures_are_kept_whole_or_it_is_said(run: Run, coded: Path, tmp_path: Path) -> None:
    assert run("decode", coded, tmp_path / "a.png")[0] == 0
    status, _, err = run("decode", coded, tmp_path / "a.webp")
    assert (status, err) == (0, "")
    np.testing.assert_array_equal(
        Image.open(tmp_path / "a.png"), Image.open(tmp_path / "a.webp").convert("RGB")
    )
    status, _, err = run("decode", coded, tmp_path / "b.jpg")
    assert (status, "JPEG as saved here is lossy" in err) == (0, True)
    status, _, err = run("decode", coded, tmp_path / "a.mpeg")
    assert (status, "no picture format" in err) == (2, True)


@pytest.mark.parametrize(
    ("name", "arguments", "codec"),
    [
        ("a.jpg", (), "jpeg"), ("a.JPEG", (), "jpeg"), ("a.webp", (), "webp"),
        ("a.j2k", (), "jpeg2000"), ("a.jpeg", JPEG, "jpeg"), ("a.bin", JPEG, "jpeg"),
    ],
)  # fmt: skip
def test_the_suffix_chooses_the_format(
    run: Run, photo: Path, tmp_path: Path, name: str, arguments: tuple[str, ...], codec: str
) -> None:
    status, told, err = run("encode", photo, tmp_path / name, *arguments, "--json")
    assert (status, err, json.loads(told)["codec"]) == (0, "", codec)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("a.png", (), "'pln' makes .qf files, not .png"),
        ("a.qf", JPEG, "'jpeg' makes .jpg files, not .qf"),
        ("a.JPEG", ("--codec", "webp"), "'webp' makes .webp files, not .JPEG"),
        ("a.avif", ("--codec", "pln-fast"), "'pln' makes .qf files, not .avif"),
        ("a.heif", ("--codec", "pln-fast"), "'pln' makes .qf files, not .heif"),
    ],
)
def test_a_suffix_that_contradicts_the_codec_is_refused(
    run: Run, photo: Path, tmp_path: Path, name: str, arguments: tuple[str, ...], message: str
) -> None:
    status, _, err = run("encode", photo, tmp_path / name, *arguments, "--force")
    assert (status, one_line(err)) == (2, True)
    assert message in err
    assert not (tmp_path / name).exists()


@pytest.mark.skipif(sys.platform == "darwin", reason="names are Unicode there")
def test_names_that_are_not_utf8(run: Run, photo: Path, tmp_path: Path) -> None:
    odd = [Path(os.fsdecode(os.fsencode(tmp_path) + name)) for name in (b"/\xff.png", b"/\xfe.jpg")]
    odd[0].write_bytes(photo.read_bytes())
    for names in (odd, [odd[0], tmp_path / "none\udcff" / "x"]):
        done = program("encode", *names, *JPEG)
        assert b"Traceback" not in done.stderr
        assert done.returncode == (0 if names is odd else 3)
    assert odd[1].stat().st_size > 0


def without_privileges() -> None:
    """In a child: what root may beyond a file's mode is dropped when it starts its program."""
    drop, overriding, reading = 24, 1, 2  # PR_CAPBSET_DROP; CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    for capability in (overriding, reading):
        ctypes.CDLL(None).prctl(drop, capability, 0, 0, 0)


@linux
def test_no_permission(photo: Path, tmp_path: Path) -> None:
    secret, locked, hidden = (tmp_path / name for name in ("secret.png", "locked", "hidden"))
    secret.write_bytes(photo.read_bytes())
    (tmp_path / "old.jpg").write_bytes(b"mine")
    (hidden / "in").mkdir(parents=True)
    locked.mkdir()
    for path, mode in ((secret, 0), (hidden, 0), (locked, 0o500), (tmp_path / "old.jpg", 0o400)):
        path.chmod(mode)
    try:
        for *arguments, message in (
            ("encode", photo, locked / "a.jpg", "can't write there (Permission denied)"),
            ("encode", photo, hidden / "a.jpg", "can't write there (Permission denied)"),
            ("encode", photo, tmp_path / "old.jpg", "--force", "it is read-only"),
            ("encode", secret, tmp_path / "b.jpg", "secret.png: can't be read (Permission denied)"),
            ("encode", hidden / "a.png", tmp_path / "b.jpg", "Permission denied"),
            ("encode", hidden, "--out", tmp_path / "o", "hidden: Permission denied"),
            ("encode", hidden / "in", "--out", tmp_path / "o", "in: Permission denied"),
            ("encode", photo, "--out", locked / "o", "can't be made (Permission denied)"),
            ("decode", secret, tmp_path / "b.png", "secret.png: Permission denied"),
            ("info", secret, "secret.png: Permission denied"),
        ):
            more = JPEG if arguments[0] == "encode" else ()
            done = program(*arguments, *more, preexec_fn=without_privileges)
            assert (done.returncode, one_line(done.stderr.decode())) == (3, True), done.stderr
            assert message in done.stderr.decode()
    finally:
        hidden.chmod(0o700)
    assert (tmp_path / "old.jpg").read_bytes() == b"mine"


@linux
@pytest.mark.parametrize(
    ("command", "status"), [(["presets"], 5), (["encode", "{photo}", "-", *JPEG], 5)]
)
def test_a_full_standard_output_is_one_line(photo: Path, command: list[str], status: int) -> None:
    with open("/dev/full", "wb") as full:
        done = program(*[word.format(photo=photo) for word in command], stdout=full)
    assert done.returncode == status
    assert one_line(done.stderr.decode())
    assert b"No space left on device" in done.stderr


def test_a_reader_that_goes_away(photo: Path) -> None:
    """Text that nobody wants any more is no failure; a picture that nobody took is one."""
    for command, status in ((["presets"], 0), (["encode", photo, "-", *JPEG], 5)):
        reading, writing = os.pipe()
        os.close(reading)
        done = program(*command, stdout=writing)
        os.close(writing)
        assert done.returncode == status
        assert b"Traceback" not in done.stderr
        assert b"Exception ignored" not in done.stderr
        assert (b"Broken pipe" in done.stderr) == (status == 5)


def test_closed_streams(photo: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "toolkit", "encode", str(photo)]
    for target, closed, status in (
        (str(tmp_path / "a.jpg"), ">&- 2>&-", 0),
        ("-", ">&-", 2),
        (str(tmp_path / "b.jpg"), "<&-", 0),
    ):
        command = " ".join(f"'{word}'" for word in [*words, target, *JPEG]) + " " + closed
        done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE)
        assert (done.returncode, b"Traceback" in done.stderr) == (status, False)
    assert Image.open(tmp_path / "a.jpg").size == (100, 80)


def test_limits_are_options(run: Run, photo: Path, coded: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    again = tmp_path / "again.jpg"
    for command in (["encode", photo, again, *JPEG], ["decode", coded, out]):
        status, _, err = run(*command, "--max-pixels", 7999)
        assert (status, one_line(err)) == (3, True)
        assert "100x80 are 8000 pixels, the limit is 7999" in err
        assert str(command[1]) in err
        status, _, err = run(*command, "--max-memory", "100k")
        assert (status, "--max-memory" in err) == (5, True)
        assert run(*command, "--max-memory", "lots")[0] == 2
        assert not out.exists()
    assert run("decode", coded, out, "--max-pixels", 8000, "--max-memory", "9G")[0] == 0


@linux
def test_too_little_memory_is_one_line(tmp_path: Path) -> None:
    """A network that would take more than it may is refused before it takes anything."""
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (1500, 1500, 3)).astype(np.uint8)).save(
        tmp_path / "a.png"
    )
    done = program("encode", tmp_path / "a.png", tmp_path / "a.qf", "--codec", "pln-isgs",
                   "--max-memory", "400M")  # fmt: skip
    assert done.returncode == 5, done.stderr
    told = "a.png: 1500x1500 pixels take about 923 MiB, the limit is 400 MiB (--max-memory)\n"
    assert done.stderr.decode().endswith(told)
    assert one_line(done.stderr.decode())
    assert not (tmp_path / "a.qf").exists()


def test_a_codec_that_raises_anything_is_one_line(
    run: Run, photo: Path, coded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit_plugins.classical.jpeg import Jpeg

    raised: list[Exception] = []

    def fail(*arguments: object) -> None:
        raise raised[-1]

    monkeypatch.setattr(Jpeg, "encode_picture", fail)
    monkeypatch.setattr(Jpeg, "decode", fail)
    for error, status in (
        (ZeroDivisionError("by\nnought"), 3), (MemoryError(), 5), (UnicodeError("x"), 3),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9"), 5),
    ):  # fmt: skip
        raised.append(error)
        for command in (
            ["encode", photo, tmp_path / "o", *JPEG],
            ["decode", coded, tmp_path / "o.png"],
        ):
            got, _, err = run(*command)
            assert (got, one_line(err)) == (status, True), err
            assert str(command[1]) in err


def test_presets_that_lie_about_are_named(
    run: Run, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "registry.yaml"
    own.write_text("presets:\n  jpeg: {codec: jpeg, summary: poor, sweep: [3]}\n")
    assert run("encode", photo, tmp_path / "a.jpg", *JPEG)[2] == ""
    monkeypatch.chdir(tmp_path)
    status, _, err = run("encode", photo, tmp_path / "b.jpg", *JPEG)
    assert (status, one_line(err)) == (0, True)
    assert f"presets of {own} come first" in err
    assert run("encode", photo, tmp_path / "c.jpg", *JPEG, "--registry", own)[2] == ""
    monkeypatch.setenv("TOOLKIT_REGISTRY", str(own))
    assert run("encode", photo, tmp_path / "d.jpg", *JPEG)[2] == ""
