"""CompressAI's codecs in .qf files: the same bytes as CompressAI's, and safe to decode."""

from __future__ import annotations

import dataclasses
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from random_models import SIZES, picture, random_model, weights_file

from toolkit.api import decode_file
from toolkit.codec.base import DecodeSettings
from toolkit.errors import UsageError
from toolkit.format.container import (
    BadFile,
    BadStream,
    OtherModel,
    Stream,
    read_container,
    write_container,
)
from toolkit.plugin.loader import load_plugins
from toolkit_plugins.hyperprior.parameter_check import Mismatch

PLUGINS = load_plugins()
POINT = 3.0


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.fixture
def build(folder):
    def build(architecture, seed=0):
        spec = PLUGINS.codec(architecture)
        path = weights_file(folder, architecture, seed)
        codec = spec.loaded(spec, spec.loaded.options_class(weights=str(path)), PLUGINS)
        return codec, DecodeSettings(weights=path)

    return build


def changed(data, **fields):
    """The file with other fields, its checksums right."""
    return write_container(dataclasses.replace(read_container(data), **fields))


@pytest.mark.parametrize("architecture", SIZES)
def test_same_bytes_and_pixels_as_compressai(architecture, build):
    import torch

    codec, settings = build(architecture)
    pixels = picture(64, 128)
    data = codec.encode(pixels, POINT).data

    model = random_model(architecture)
    rate = {}
    if architecture.endswith("-vbr"):
        rate = {"s": 2}
        model.update(force=True, scale=model.Gain[2].abs())
    else:
        model.update()
    x = torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    with torch.no_grad():
        theirs = model.compress(x, **rate)
        image = model.decompress(theirs["strings"], theirs["shape"], **rate)["x_hat"]
    strings = [s[0] for s in theirs["strings"]]
    container = read_container(data)
    assert [stream.data for stream in container.streams] == strings
    assert len(data) - sum(map(len, strings)) <= 84
    expected = np.rint(image[0].permute(1, 2, 0).numpy() * 255)
    assert expected.std() > 1
    assert np.array_equal(decode_file(data, settings).pixels, expected)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (17, 31), (513, 511)])
def test_any_size_and_mode(size, channels, build):
    codec, settings = build("mbt2018-mean")
    pixels = picture(*size, channels=channels)
    encoded = codec.encode(pixels, POINT)
    decoded = decode_file(encoded.data, settings).pixels
    assert decoded.shape == pixels.shape
    assert sum(encoded.parts.values()) == 8 * len(encoded.data)
    if channels == 4:
        assert np.array_equal(decoded[:, :, 3], pixels[:, :, 3])


def test_rates_between_the_trained_ones(build):
    codec, settings = build("mbt2018-mean-vbr")
    pixels = picture(64, 64)
    sizes = []
    for point in (3.0, 3.5, 3.9, 4.0):
        data = codec.encode(pixels, point).data
        sizes.append(len(data))
        assert decode_file(data, settings).pixels.shape == pixels.shape
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_quality_between_two_models_is_refused(build):
    codec, _ = build("mbt2018-mean")
    with pytest.raises(UsageError, match="whole"):
        codec.encode(picture(8, 8), 2.5)
    with pytest.raises(UsageError):
        codec.encode(picture(8, 8), 9)


@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_precision_changes_only_the_synthesis(precision, build):
    codec, settings = build("mbt2018-mean")
    data = codec.encode(picture(64, 64), POINT).data
    plain = decode_file(data, settings).pixels.astype(float)
    other = decode_file(data, dataclasses.replace(settings, precision=precision)).pixels
    assert np.abs(plain - other).max() <= (1 if precision == "float64" else 12)
    threads = decode_file(data, dataclasses.replace(settings, threads=2)).pixels
    assert np.abs(plain - threads).max() <= 1


def test_threads_change_no_byte(build):
    import torch

    codec, _ = build("mbt2018")
    pixels = picture(64, 64)
    files = set()
    before = torch.get_num_threads()
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        files.add(codec.encode(pixels, POINT).data)
    torch.set_num_threads(before)
    assert len(files) == 1


def test_concurrent_encodes_keep_apart(build):
    codec, settings = build("mbt2018-mean-vbr")
    jobs = [(picture(64, 64, seed), 1.0 + seed) for seed in range(6)]
    alone = [codec.encode(*job).data for job in jobs]
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(lambda job: codec.encode(*job).data, jobs))
        shown = list(threads.map(lambda data: decode_file(data, settings).pixels, together))
    assert together == alone
    assert all(pixels.shape == (64, 64, 3) for pixels in shown)


@pytest.mark.parametrize("architecture", ["bmshj2018-factorized", "mbt2018-mean", "mbt2018"])
def test_other_entropy_parameters_are_reported(architecture, build):
    codec, settings = build(architecture)
    data = codec.encode(picture(64, 64), POINT).data
    parameters = read_container(data).parameters
    wrong = parameters[:-8] + bytes([parameters[-8] ^ 1]) + parameters[-7:]
    with pytest.raises(Mismatch, match="entropy parameters"):
        decode_file(changed(data, parameters=wrong), settings)
    wrong = parameters[:-1] + bytes([parameters[-1] ^ 1])
    with pytest.raises(BadStream, match="symbols"):
        decode_file(changed(data, parameters=wrong), settings)


def test_other_weights_are_reported(build):
    codec, _ = build("mbt2018-mean")
    _, other = build("mbt2018-mean", seed=1)
    with pytest.raises(OtherModel, match="weights"):
        decode_file(codec.encode(picture(64, 64), POINT).data, other)


def test_headers_no_encoder_writes(build):
    codec, settings = build("mbt2018-mean")
    data = codec.encode(picture(64, 64), POINT).data
    container = read_container(data)
    y, z = container.streams
    for fields in (
        {"stream_version": 99},
        {"parameters": b""},
        {"parameters": b"\x07" + container.parameters[1:]},
        {"parameters": container.parameters[:1] + b"\0\0\xc0\x7f" + container.parameters[5:]},
        {"parameters": container.parameters[:1] + b"\0\0\x20\x40" + container.parameters[5:]},
        {"streams": (y,)},
        {"streams": (z, y)},
        {"streams": (y, z, Stream("a", b""))},
        {"mode": "RGBA"},
        {"streams": (y, Stream("z", b""))},
        {"streams": (Stream("y", y.data[:5]), z)},
    ):
        with pytest.raises(BadStream):
            decode_file(changed(data, **fields), settings)


def damaged(data, rng):
    """A file with damage in its streams or size, and right checksums."""
    container = read_container(data)
    streams = []
    for stream in container.streams:
        content = bytearray(stream.data)
        for _ in range(rng.choice([0, 1, 1, 8])):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.3:
            content = content[: 4 * rng.randrange(len(content) // 4 + 1)]
        if rng.random() < 0.1:
            content = bytearray(rng.randbytes(4 * rng.randrange(2, 60)))
        streams.append(Stream(stream.name, bytes(content)))
    fields = {"streams": tuple(streams)}
    if rng.random() < 0.2:
        fields |= {"width": rng.randrange(1, 300), "height": rng.randrange(1, 300)}
    return changed(data, **fields)


def survives(files, count, seed):
    rng = random.Random(seed)
    shown = refused = 0
    for _ in range(count):
        file, settings = rng.choice(files)
        bad = damaged(file, rng)
        header = read_container(bad)
        try:
            pixels = decode_file(bad, settings).pixels
        except BadFile:
            refused += 1
        else:  # nothing that was coded is damaged
            assert pixels.shape == (header.height, header.width, 3)
            assert header.streams == read_container(file).streams
            shown += 1
    return shown, refused


@pytest.fixture
def files(build):
    result = []
    for architecture in ("bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean", "mbt2018"):
        codec, settings = build(architecture)
        result.append((codec.encode(picture(64, 64), POINT).data, settings))
    return result


def test_damaged_files(files):
    _, refused = survives(files, 20, seed=1)
    assert refused > 0


@pytest.mark.slow
def test_500_damaged_files(files):
    shown, refused = survives(files, 500, seed=2)
    assert shown + refused == 500
    assert refused > 450
