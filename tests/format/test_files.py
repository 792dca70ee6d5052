"""Output files: complete or absent, and nothing lost that was there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from toolkit.errors import InputError, ResourceError, UsageError
from toolkit.format.files import check_output, write_atomically, write_bytes_atomically

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's devices")


def test_a_file_is_written_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    write_bytes_atomically(tmp_path / "a", b"one")
    write_bytes_atomically(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_what_was_there_stays_where_writing_fails(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"before")

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", fail)
    assert (tmp_path / "a").read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link, target = tmp_path / "link", tmp_path / "far" / "target"
    for before in (None, b"before"):
        link.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
        if before is not None:
            target.write_bytes(before)
        link.symlink_to(Path("far") / "target")
        write_bytes_atomically(link, b"after")
        assert link.is_symlink()
        assert target.read_bytes() == b"after"
        assert not target.is_symlink()
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(InputError, match="loop"):
        write_bytes_atomically(loop, b"")


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_are_the_umasks_or_those_of_the_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_bytes_atomically(tmp_path / "new", b"")
        (tmp_path / "old").write_bytes(b"")
        (tmp_path / "old").chmod(0o640)
        write_bytes_atomically(tmp_path / "old", b"after")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o666 & ~umask
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o640


def test_the_longest_name_allowed(tmp_path: Path) -> None:
    name = "x" * os.pathconf(tmp_path, "PC_NAME_MAX")
    write_bytes_atomically(tmp_path / name, b"whole")
    assert (tmp_path / name).read_bytes() == b"whole"
    with pytest.raises(InputError, match="too long"):
        write_bytes_atomically(tmp_path / (name + "x"), b"")


@pytest.mark.skipif(sys.platform == "darwin", reason="names are Unicode there")
def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.qf"))
    write_bytes_atomically(path, b"whole")
    assert path.read_bytes() == b"whole"


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    path, got = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()
    data = os.urandom(300_000)
    write_bytes_atomically(path, data)
    reader.join(10)
    assert got == [data]
    assert path.is_fifo()


@linux
def test_a_device_is_written_to_and_stays() -> None:
    write_bytes_atomically(Path("/dev/null"), b"gone")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(ResourceError, match=r"/dev/full: can't be written \(No space left"):
        write_bytes_atomically(Path("/dev/full"), b"x")


def test_folders_and_missing_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a folder"):
        write_bytes_atomically(tmp_path, b"")
    (tmp_path / "file").touch()
    for path in (tmp_path / "none" / "a", tmp_path / "file" / "a"):
        with pytest.raises(InputError, match="can't write there"):
            write_bytes_atomically(path, b"")
        with pytest.raises(InputError, match="can't write there"):
            check_output(path)


def test_checks_before_the_work(tmp_path: Path) -> None:
    there, link = tmp_path / "there", tmp_path / "link"
    there.touch()
    link.symlink_to(there)
    check_output(tmp_path / "new")
    with pytest.raises(UsageError, match="there already; --force"):
        check_output(there)
    check_output(there, overwrite=True)
    for path in (there, link, tmp_path / "." / "there"):
        with pytest.raises(UsageError, match="it is the input"):
            check_output(path, overwrite=True, inputs=[there])
    with pytest.raises(UsageError, match="a folder"):
        check_output(tmp_path, overwrite=True)


def test_what_comes_to_be_there_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a"

    def write(file: BinaryIO) -> None:
        path.write_bytes(b"someone else's")
        file.write(b"ours")

    with pytest.raises(UsageError, match="there already"):
        write_atomically(path, write, overwrite=False)
    assert path.read_bytes() == b"someone else's"
    assert list(tmp_path.iterdir()) == [path]


@linux
def test_a_full_disk_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the same error, no root needed."""
    program = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from toolkit.errors import ResourceError\n"
        "from toolkit.format.files import write_bytes_atomically\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    write_bytes_atomically(Path(sys.argv[1]), bytes(5000))\n"
        "except ResourceError as error:\n    print(error)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "can't be written (File too large)" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_kills_leave_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from toolkit.format.files import write_bytes_atomically\n"
        "print('ready', flush=True)\nn = 0\n"
        "while True:\n"
        "    n += 1\n    write_bytes_atomically(Path(sys.argv[1]), bytes([n % 256]) * 400_000)"
    )
    path = tmp_path / "a"
    for trial in range(5):
        child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(0.02 + 0.013 * trial)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        if path.exists():
            data = path.read_bytes()
            assert data == data[:1] * 400_000
