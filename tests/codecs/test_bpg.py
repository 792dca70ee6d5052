"""BPG: the container, the HEVC headers that it takes apart, the programs, and golden files.

The pictures beside the golden files are what libbpg 0.9.5's decoder makes of them.
"""

from __future__ import annotations

import builtins
import random
import shutil
import stat
import sys
import tracemalloc
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from toolkit.codec.base import Codec
from toolkit.errors import InputError, MissingError
from toolkit.format.container import BadFile, BadStream, LimitExceeded
from toolkit.options import parse_options
from toolkit.plugin.loader import load_plugins
from toolkit_plugins.classical.bpg import file, hevc
from toolkit_plugins.classical.bpg.bits import BitReader, BitWriter, read_ue7, ue7

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "bpg").glob("*.bpg"))

tools = st.builds(
    hevc.CodingTools,
    st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 2), st.integers(0, 1),
              st.integers(0, 4)),
    st.booleans(),
    st.none() | st.tuples(*[st.integers(0, 15)] * 2, *[st.integers(0, 2)] * 2, st.integers(0, 1)),
    st.booleans(),
    st.none() | st.tuples(*[st.booleans()] * 9),
)  # fmt: skip


def make(**options: Any) -> Codec:
    spec = load_plugins().codec("bpg")
    return spec.loaded(spec, parse_options(spec.loaded.options_class, options, "bpg"))


@cache
def embedded(**options: Any) -> Codec:
    pytest.importorskip("av", reason="the package av isn't installed")
    return make(encoder="embedded", **options)


@cache
def photograph() -> np.ndarray:
    from skimage.data import astronaut

    return astronaut()


def psnr(original: np.ndarray, decoded: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((original.astype(float) - decoded) ** 2)))


@pytest.mark.parametrize(
    ("value", "coded"), [(8, "08"), (542, "841e"), (728855, "acbe17")], ids=str
)
def test_ue7_as_in_the_specification(value: int, coded: str) -> None:
    assert ue7(value).hex() == coded
    assert read_ue7(b"!" + bytes.fromhex(coded), 1) == (value, 1 + len(coded) // 2)


@given(st.integers(0, 2**32 - 1))
def test_ue7_round_trip(value: int) -> None:
    assert read_ue7(ue7(value), 0) == (value, len(ue7(value)))


@pytest.mark.parametrize("data", [b"", b"\x81", b"\x80\x01", b"\xff" * 6])
def test_ue7_that_is_none(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"number|too early"):
        read_ue7(data, 0)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2**20))))
def test_bits_round_trip(values: list[tuple[bool, int]]) -> None:
    writer = BitWriter()
    for exp_golomb, value in values:
        writer.ue(value) if exp_golomb else writer.u(21, value)
    reader = BitReader(writer.bytes())
    assert [reader.ue() if exp_golomb else reader.u(21) for exp_golomb, _ in values] == [
        value for _, value in values
    ]


@given(tools)
def test_tools_round_trip(tools: hevc.CodingTools) -> None:
    writer = BitWriter()
    hevc.write_tools(tools, writer)
    assert hevc.read_tools(BitReader(writer.bytes())) == tools


@given(tools, st.integers(1, 4000), st.integers(1, 4000), st.integers(0, 3))
def test_parameter_sets_hold_the_tools(
    tools: hevc.CodingTools, width: int, height: int, chroma: int
) -> None:
    """And no start code (H.265, 7.4.2.4.1)."""
    sets = hevc.parameter_sets(tools, width, height, chroma, 8)
    assert [hevc.unit_type(unit) for unit in sets] == [hevc.VPS, hevc.SPS]
    assert not any(bad in unit for unit in sets for bad in (b"\0\0\0", b"\0\0\1", b"\0\0\2"))
    read = hevc.tools_of(sets[1])
    assert read.blocks == tools.blocks
    assert (read.sao, read.pcm) == (tools.sao, tools.pcm)
    assert read.strong_intra_smoothing == tools.strong_intra_smoothing


@given(st.integers(0, 62), st.integers(0, 62))
def test_layers(first: int, second: int) -> None:
    unit = hevc.with_layer(b"\x26\x01\xaf", first)
    assert hevc.layer(unit) == first
    assert hevc.unit_type(unit) == 19
    assert hevc.with_layer(unit, second)[2:] == b"\xaf"
    assert hevc.with_layer(unit, 0) == b"\x26\x01\xaf"


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files_decode_to_the_same_pixels(path: Path) -> None:
    """Exactly, but for chroma interpolation and bit depths, where BPG prescribes nothing."""
    expected = np.atleast_3d(np.asarray(Image.open(path.with_suffix(".png")))).astype(int)
    decoded = embedded().decode(path.read_bytes()).pixels.astype(int)
    assert decoded.shape == expected.shape
    free = any(word in path.stem for word in ("420", "422", "10bit"))
    assert np.abs(decoded - expected).max() <= (2 if free else 0)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files_are_written_as_they_were_read(path: Path) -> None:
    assert file.write(file.read(path.read_bytes())) == path.read_bytes()


def test_there_are_golden_files() -> None:
    assert len(GOLDEN) >= 7


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_every_prefix_is_refused(path: Path) -> None:
    data = path.read_bytes()
    for size in range(len(data)):
        with pytest.raises(BadStream, match=r"^bpg: "):
            embedded().decode(data[:size])


def test_damaged_files_give_a_picture_or_a_clear_error() -> None:
    rng = random.Random(1)
    messages = []
    for trial in range(600):
        data = bytearray(GOLDEN[trial % len(GOLDEN)].read_bytes())
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(24 if trial % 2 else len(data))] ^= rng.randrange(1, 256)
        try:
            assert embedded().decode(bytes(data)).pixels.dtype == np.uint8
        except BadFile as error:
            messages.append(str(error))
    assert len(messages) > 200
    assert all(message.startswith("bpg: ") and "\n" not in message for message in messages)


def test_too_large_a_picture_is_refused_before_it_is_decoded() -> None:
    data = file.MAGIC + bytes([0x60, 0]) + ue7(60_000) * 2 + ue7(0) + b"\x03\x92\x47\x40" + bytes(9)
    with pytest.raises(LimitExceeded, match="60000x60000"):
        embedded().decode(data + b"\x26\x01\xaf")


@pytest.mark.parametrize(
    "options",
    [{}, {"chroma": "4:2:0"}, {"colour": "rgb"}],
    ids=lambda options: "".join(options.values()) or "default",
)
@pytest.mark.parametrize("size", [(1, 1), (8, 9), (17, 31), (64, 5), (513, 511)], ids=str)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_round_trip(options: dict[str, str], size: tuple[int, int], channels: int) -> None:
    width, height = size
    colour = np.tile(photograph(), (1, 2, 1))[:height, :width]
    pixels = {
        1: colour[:, :, :1],
        3: colour,
        4: np.dstack([colour, colour[:, :, 2]]),
    }[channels]
    codec = embedded(effort=2, **options)
    decoded = codec.decode(codec.encode(pixels, 15).data).pixels
    assert decoded.shape == pixels.shape
    assert np.abs(decoded.astype(int) - pixels).mean() < 3


def test_rgb_can_t_be_subsampled() -> None:
    with pytest.raises(InputError, match=r"needs chroma 4:4:4"):
        embedded(colour="rgb", chroma="4:2:0").encode(photograph()[:16, :16], 30)


def test_ycgco_is_read() -> None:
    """H.265, E.3.1, equations E-38 to E-41, the other way round."""
    samples = pytest.importorskip("toolkit_plugins.classical.bpg.samples")
    rgb = photograph()[:16, :24].astype(float)
    red, green, blue = (rgb[:, :, i] for i in range(3))
    planes = [
        red / 4 + green / 2 + blue / 4,
        -red / 4 + green / 2 - blue / 4 + 128,
        red / 2 - blue / 2 + 128,
    ]
    plane = file.Plane(hevc.CodingTools((0, 3, 0, 3, 3), True, None, True), ())
    picture = file.BpgFile(24, 16, file.C444, file.YCGCO, 8, False, plane)
    assert np.abs(samples.to_pixels(planes, picture) - rgb).max() <= 1


def test_quality_is_that_of_bpgenc() -> None:
    """bpgenc -f 444 -e x265 -q 33: 0.4898 bits per pixel, 34.63 dB. Within 0.1 dB of its curve."""
    rates, levels = [], []
    for qp in (33, 35):
        data = embedded().encode(photograph(), qp).data
        rates.append(8 * len(data) / 512**2)
        levels.append(psnr(photograph(), embedded().decode(data).pixels))
    assert rates[1] < 0.4898 < rates[0]
    level = np.interp(np.log(0.4898), np.log(rates[::-1]), levels[::-1])
    assert level > 34.63 - 0.1


def rate_at(level: float, codec: Codec, pixels: np.ndarray) -> float:
    """Bytes at a PSNR, between two quantizers."""
    files = [codec.encode(pixels, qp).data for qp in (36, 29)]
    levels = [psnr(pixels, codec.decode(data).pixels) for data in files]
    assert levels[0] < level < levels[1]
    return float(np.exp(np.interp(level, levels, np.log([len(data) for data in files]))))


def test_more_effort_takes_fewer_bits_at_the_same_quality() -> None:
    part = photograph()[:256, :256]
    assert rate_at(35.5, embedded(effort=8), part) < 0.97 * rate_at(35.5, embedded(effort=1), part)


PROGRAM = """#!{python}
import sys
name, arguments = {name!r}, sys.argv[1:]
with open({log!r}, "a") as log:
    print(name, *arguments, file=log)
if arguments == ["-h"]:
    print("BPG Image " + ("En" if name == "bpgenc" else "De") + "coder version 0.9.8")
    sys.exit(1)
if {fails}:
    print("Unsupported thing", file=sys.stderr)
    sys.exit(1)
source, target = arguments[-1], arguments[arguments.index("-o") + 1]
with open({result!r}, "rb") as result, open(target, "wb") as out:
    out.write(result.read())
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts programs of the same command line on the PATH; returns what they were called with."""
    log = tmp_path / "log"
    golden = next(path for path in GOLDEN if path.stem == "ycbcr-444")

    def install(fails: bool = False) -> Path:
        for name, result in (("bpgenc", golden), ("bpgdec", golden.with_suffix(".png"))):
            path = tmp_path / name
            path.write_text(
                PROGRAM.format(
                    python=sys.executable, name=name, log=str(log), fails=fails, result=str(result)
                )
            )
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        return log

    return install


def test_programs_are_used_where_they_are(programs: Any) -> None:
    log = programs()
    pixels = photograph()[:21, :33]
    data = make(colour="rgb").encode(pixels, 30).data
    assert data[:4] == file.MAGIC
    assert make(backend="x265", chroma="4:2:0").decode(data).pixels.shape == (21, 33, 3)
    make(backend="x265", chroma="4:2:0").encode(pixels, 12)
    lines = [line.split(" -o ")[0] for line in log.read_text().splitlines()]
    assert lines == [
        "bpgenc -q 30 -m 8 -b 8 -c rgb -f 444",
        "bpgdec",
        "bpgenc -q 12 -m 8 -b 8 -c ycbcr -f 420 -e x265",
    ]
    assert make().identity() == {"encoder": "bpgenc", "bpgenc": "0.9.8", "bpgdec": "0.9.8"}


def test_programs_that_fail_are_quoted(programs: Any) -> None:
    programs(fails=True)
    with pytest.raises(InputError, match="bpgenc: Unsupported thing"):
        make().encode(photograph()[:21, :33], 30)
    with pytest.raises(BadStream, match="bpgdec: Unsupported thing"):
        make().decode(GOLDEN[0].read_bytes())


def test_without_programs_and_package_the_error_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = make()
    real = builtins.__import__

    def without_av(name: str, *rest: Any) -> Any:
        if name == "av":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(builtins, "__import__", without_av)
    with pytest.raises(MissingError, match=r"bpgenc.*pip install av"):
        codec.encode(np.zeros((8, 8, 3), np.uint8), 30)
    with pytest.raises(MissingError, match="aren't on the PATH"):
        make(encoder="bpgenc").encode(np.zeros((8, 8, 3), np.uint8), 30)


@pytest.mark.parametrize("chroma", [file.GRAY, file.C420, file.C422, file.C444])
def test_rows_in_bands_are_those_of_the_whole(chroma: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit, where chroma reaches over the bands' ends, too."""
    samples = pytest.importorskip("toolkit_plugins.classical.bpg.samples")
    numbers = np.random.default_rng(chroma)
    height, width = 88, 24
    shape = {file.C420: (44, 12), file.C422: (88, 12), file.C444: (88, 24)}.get(chroma)
    planes = [numbers.integers(0, 256, (height, width)).astype(np.uint8)]
    if shape:
        planes += [numbers.integers(0, 256, shape).astype(np.uint8) for _ in range(2)]
    plane = file.Plane(hevc.CodingTools((0, 3, 0, 3, 3), True, None, True), ())
    for lines in (height, height - 5):
        picture = file.BpgFile(width - 3, lines, chroma, file.YCBCR, 8, False, plane)
        whole = samples.to_pixels(planes, picture)
        with monkeypatch.context() as patched:
            patched.setattr(samples, "_BAND", 8)
            np.testing.assert_array_equal(samples.to_pixels(planes, picture), whole)


def test_a_large_picture_takes_little_beside_its_pixels() -> None:
    """A short file may claim a large picture: floats of all of it took 80 bytes a pixel."""
    samples = pytest.importorskip("toolkit_plugins.classical.bpg.samples")
    planes = [np.zeros((2048, 2048), np.uint8), *np.zeros((2, 1024, 1024), np.uint8)]
    plane = file.Plane(hevc.CodingTools((0, 3, 0, 3, 3), True, None, True), ())
    picture = file.BpgFile(2048, 2048, file.C420, file.YCBCR, 8, False, plane)
    tracemalloc.start()
    try:
        samples.to_pixels(planes, picture)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20 * 3 + 100 * 256 * 2048
    finally:
        tracemalloc.stop()


def test_a_short_file_that_claims_a_large_picture_is_refused() -> None:
    plane = file.Plane(
        hevc.CodingTools((0, 3, 0, 3, 3), True, None, True), (b"\x26\x01" + bytes(9) + b"x",)
    )
    bomb = file.write(file.BpgFile(13_000, 13_000, file.C444, file.YCBCR, 8, False, plane))
    assert len(bomb) < 241
    with pytest.raises(LimitExceeded, match=r"bpg: 13000x13000 pixels in \d+ bytes"):
        embedded().decode(bomb)
