"""The .qf container: what is written is read, and nothing else is."""

from __future__ import annotations

import random
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import InputError
from toolkit.format import container as qf
from toolkit.format.container import Container, Limits, Stream, read_container, write_container
from toolkit.format.limits import limited

SMALL = Container(
    48, 32, "RGB", "pln", 1, b"\x01\x02\x03\x04\x05\x06\x07\x08", b"\x00\xff\x10",
    (Stream("z1", bytes(range(20))), Stream("z2", b"second stream, 24 bytes.")),
)  # fmt: skip
BARE = Container(1, 1, "L", "x", 0, None, b"", ())
ALPHA = Container(300, 70_000 // 2, "RGBA", "dither-2", 130, None, b"p" * 200, (Stream("a", b""),))

GOLDEN = bytes.fromhex(
    "895146490d0a1a0a"  # magic
    "0100"  # version 1.0
    "25"  # 37 bytes of fields
    "05"  # RGB, with a fingerprint
    "30" "20"  # 48 x 32
    "03706c6e" "01"  # pln, stream version 1
    "0102030405060708"
    "0300ff10"  # parameters
    "02"  # streams
    "027a31" "14" "a4ffdd3b"
    "027a32" "18" "75006d4c"
)  # fmt: skip

modes = st.sampled_from(["L", "RGB", "RGBA"])
names = st.from_regex(r"[a-z0-9][a-z0-9+._-]{0,39}", fullmatch=True)
streams = st.lists(
    st.builds(Stream, st.from_regex(r"[!-~]{1,40}", fullmatch=True), st.binary(max_size=300)),
    max_size=8,
    unique_by=lambda stream: stream.name,
).map(tuple)
containers = st.builds(
    Container,
    st.integers(1, 13_000), st.integers(1, 13_000), modes, names, st.integers(0, 2**32 - 1),
    st.none() | st.binary(min_size=8, max_size=8), st.binary(max_size=300), streams,
)  # fmt: skip


def header_end(data: bytes) -> int:
    return qf.read_header(data).size


def resealed(data: bytes, end: int) -> bytes:
    """``data`` with the header's checksum made right again."""
    crc = zlib.crc32(data[: end - 4]).to_bytes(4, "little")
    return data[: end - 4] + crc + data[end:]


def edited(at: int, value: int) -> bytes:
    data = bytearray(write_container(SMALL))
    data[at] = value
    return resealed(bytes(data), header_end(write_container(SMALL)))


@given(containers)
def test_what_is_written_is_read(container: Container) -> None:
    data = write_container(container)
    assert read_container(data, Limits(pixels_per_byte=None)) == container
    assert qf.is_container(data)
    assert sum(qf.parts_in_bits(container).values()) == 8 * len(data)


def test_bytes_of_a_file_never_change() -> None:
    data = write_container(SMALL)
    assert data[: len(GOLDEN)].hex() == GOLDEN.hex()
    assert data[len(GOLDEN) + 4 :] == b"".join(stream.data for stream in SMALL.streams)


def test_overhead_of_a_photograph_is_at_most_64_bytes() -> None:
    payload = (Stream("z1", b"a" * 10_000), Stream("z2", b"b" * 20_000))
    photograph = Container(768, 512, "RGB", "pln", 1, b"f" * 8, b"12345", payload)
    assert len(write_container(photograph)) - 30_000 <= 64


def test_header_alone_needs_no_codec() -> None:
    data = write_container(SMALL)
    header = qf.read_header(data)
    assert (header.codec, header.mode, header.width, header.height) == ("pln", "RGB", 48, 32)
    assert [(entry.name, entry.length) for entry in header.streams] == [("z1", 20), ("z2", 24)]
    start = header.streams[1].offset
    assert data[start : start + 24] == SMALL.streams[1].data


def test_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, toolkit.format.container;sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("container", [SMALL, BARE, ALPHA], ids=["small", "bare", "alpha"])
def test_every_prefix_is_truncated(container: Container) -> None:
    data = write_container(container)
    for size in range(len(data)):
        with pytest.raises(qf.Truncated, match=str(size)):
            read_container(data[:size])


@given(containers, st.binary(min_size=1, max_size=20))
def test_anything_after_the_end_is_trailing_data(container: Container, more: bytes) -> None:
    with pytest.raises(qf.TrailingData, match=str(len(more))):
        read_container(write_container(container) + more)


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(qf.BadFile):
        read_container(data)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_arbitrary_headers_with_a_right_checksum(body: bytes) -> None:
    """Either the header can be written again as it was, or it is refused."""
    head = qf.MAGIC + bytes(qf.VERSION)
    size = bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 127 | 128, 1])
    data = head + size + body
    data += zlib.crc32(data).to_bytes(4, "little")
    try:
        container = read_container(data)
    except qf.BadFile:
        return
    assert write_container(container) == data


def test_every_single_bit_counts() -> None:
    data = write_container(SMALL)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(qf.BadFile):
            read_container(bytes(flipped))


def mutate(data: bytes, rng: random.Random) -> bytes:
    """``data`` damaged once to three times: bits, bytes, cuts, insertions, blocks moved."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        kind, at = rng.randrange(6), rng.randrange(len(out)) if out else 0
        if kind == 0 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and out:
            out[at] = rng.randrange(256)
        elif kind == 2:
            del out[at : at + rng.randint(1, 9)]
        elif kind == 3:
            out[at:at] = rng.randbytes(rng.randint(1, 9))
        elif kind == 4:
            out = out[:at]
        else:
            to = rng.randrange(len(out)) if out else 0
            out[at : at + 4], out[to : to + 4] = out[to : to + 4], out[at : at + 4]
    return bytes(out)


def test_200_000_mutated_containers_are_refused() -> None:
    rng = random.Random(1)
    originals = [write_container(container) for container in (SMALL, BARE, ALPHA)]
    wanted, kinds = 200_000, set()
    while wanted:
        original = originals[wanted % 3]
        data = mutate(original, rng)
        if data == original:
            continue
        wanted -= 1
        try:
            read_container(data)
        except qf.BadFile as error:
            kinds.add(type(error))
        else:
            pytest.fail(f"accepted {data.hex()}")
    assert {qf.NotAContainer, qf.Truncated, qf.TrailingData, qf.ChecksumMismatch} <= kinds


def test_other_files_are_not_containers() -> None:
    png = b"\x89PNG\r\n\x1a\n" + bytes(40)
    assert not qf.is_container(png)
    assert not qf.is_container(b"")
    with pytest.raises(qf.NotAContainer, match=r"not a \.qf"):
        read_container(png)


@pytest.mark.parametrize(("old", "new"), [(b"\r\n", b"\n"), (b"\x89", b"\x09")])
def test_text_mode_damage_is_named(old: bytes, new: bytes) -> None:
    data = write_container(SMALL).replace(old, new)
    assert qf.is_container(data)
    with pytest.raises(qf.NotAContainer, match="text mode"):
        read_container(data)


@pytest.mark.parametrize("version", [(1, 2), (2, 0), (255, 255)])
def test_newer_version(version: tuple[int, int]) -> None:
    data = write_container(SMALL)
    with pytest.raises(qf.NewerVersion, match=rf"{version[0]}\.{version[1]}.*update"):
        read_container(data[:8] + bytes(version) + data[10:])


def test_damaged_stream_is_named_with_its_bytes() -> None:
    data = bytearray(write_container(SMALL))
    data[-1] ^= 1
    assert qf.read_header(bytes(data)).codec == "pln"
    with pytest.raises(qf.ChecksumMismatch, match=rf"'z2' \(bytes {len(data) - 24} to {len(data)}"):
        read_container(bytes(data))


def test_damaged_header_is_a_checksum_mismatch() -> None:
    data = bytearray(write_container(SMALL))
    data[12] ^= 1  # the width
    with pytest.raises(qf.ChecksumMismatch, match="header"):
        read_container(bytes(data))


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (9 - 1, 0),  # version 0.0
        (11, 3),  # no such mode
        (11, 0x15),  # a flag that isn't defined
        (12, 0),  # no width
        (14, 0),  # no codec name
        (14, 200),  # a name that passes the header's end
        (15, ord("P")),  # a capital in the codec's name
        (34, ord("2")),  # the same stream twice
        (31, 1),  # one stream only: the header goes on
    ],
)
def test_headers_that_make_no_sense(at: int, value: int) -> None:
    with pytest.raises(qf.BadHeader, match=r"^byte \d+:"):
        read_container(edited(at, value))


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        (Limits(file_bytes=50), "file bytes"),
        (Limits(pixels=48 * 32 - 1), "pixels"),
        (Limits(side=47), "pixels a side"),
        (Limits(header_bytes=40), "header bytes"),
        (Limits(streams=1), "streams"),
    ],
)
def test_limits_hold_for_reading_and_writing(limits: Limits, word: str) -> None:
    data = write_container(SMALL)
    with pytest.raises(qf.LimitExceeded, match=word):
        read_container(data, limits)
    with pytest.raises(qf.LimitExceeded, match=word):
        write_container(SMALL, limits)


def test_a_short_file_that_claims_many_pixels_is_refused() -> None:
    """66 bytes must not make a decoder ask for gigabytes; what is plausible is read."""
    bomb = write_container(replace(SMALL, width=16_384, height=4096))
    with pytest.raises(qf.LimitExceeded, match=r"16384x4096 pixels in \d+ bytes.*--max-pixels"):
        read_container(bomb)
    with limited(pixels=2**26):
        assert read_container(bomb).width == 16_384
    large = replace(SMALL, width=4096, height=4096)
    assert read_container(write_container(large)) == large
    longer = replace(SMALL, width=8192, height=4096, streams=(Stream("a", bytes(512)),))
    assert read_container(write_container(longer)) == longer


def test_limits_can_be_raised() -> None:
    wide = replace(SMALL, width=70_000)
    data = write_container(wide, Limits(side=100_000))
    with pytest.raises(qf.LimitExceeded):
        read_container(data)
    assert read_container(data, Limits(side=100_000)) == wide


def test_a_declared_gigabyte_is_refused_before_it_is_looked_for() -> None:
    body = bytes.fromhex("00010101780000") + b"\x01" + b"\x01a" + b"\xff" * 8 + b"\x7f" + bytes(4)
    data = qf.MAGIC + bytes(qf.VERSION) + bytes([len(body)]) + body
    with pytest.raises(qf.LimitExceeded, match="file bytes"):
        read_container(data + zlib.crc32(data).to_bytes(4, "little"))


def test_the_caller_may_refuse_before_streams_are_read() -> None:
    data = bytearray(write_container(SMALL))
    data[-1] ^= 1

    def refuse(header: qf.Header) -> None:
        raise qf.UnknownPlugin(f"no codec '{header.codec}'")

    with pytest.raises(qf.UnknownPlugin, match="pln") as caught:
        read_container(bytes(data), accept=refuse)
    assert caught.value.exit_status == 4


def test_missing_stream() -> None:
    assert SMALL.stream("z2") == SMALL.streams[1].data
    with pytest.raises(qf.BadStream, match="'z3'"):
        SMALL.stream("z3")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"width": 0}, "width"),
        ({"mode": "CMYK"}, "mode"),
        ({"codec": "No Codec"}, "codec"),
        ({"fingerprint": b"short"}, "fingerprint"),
        ({"streams": (Stream("a", b""), Stream("a", b""))}, "twice"),
        ({"streams": (Stream("", b""),)}, "stream name"),
        ({"stream_version": -1}, "stream version"),
    ],
)
def test_what_no_file_may_say_is_not_written(changes: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        write_container(replace(SMALL, **changes))  # type: ignore[arg-type]


def test_files_are_read_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.qf"
    path.write_bytes(write_container(SMALL))
    assert qf.read_file(path) == path.read_bytes()
    with pytest.raises(qf.LimitExceeded):
        qf.read_file(path, Limits(file_bytes=20))
    with pytest.raises(InputError, match="No such file"):
        qf.read_file(tmp_path / "b.qf")
