"""The latents of a hyperprior model, rounded, dithered and sampled."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import picture, weights_file
from safetensors.torch import load_file, save_file

from toolkit.api import decode_file
from toolkit.codec.base import DecodeSettings, as_pixels
from toolkit.errors import UnknownName, UsageError
from toolkit.format.container import BadFile, OtherModel, Stream, read_container, write_container
from toolkit.options import parse_options
from toolkit.plugin.loader import load_plugins
from toolkit_plugins.compressai.checkpoints import AUTOREGRESSIVE
from toolkit_plugins.compressai.latents import ARCHITECTURES
from toolkit_plugins.hyperprior.coder import (
    HyperTables,
    decode_gaussian,
    decode_hyper,
    encode_gaussian,
    encode_hyper,
)
from toolkit_plugins.hyperprior.parameter_check import Mismatch

PLUGINS = load_plugins()
CODINGS = ("quantized", "dithered", "sampled")
SMALL = {"sampler": "greedy"}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.fixture
def build(folder):
    def build(coding, architecture="mbt2018-mean", seed=0, **options):
        spec = PLUGINS.codec("latents")
        path = weights_file(folder, architecture, seed)
        values = {"architecture": architecture, "weights": str(path), "coding": coding}
        parsed = parse_options(spec.loaded.options_class, {**values, **options}, "test")
        return spec.loaded(spec, parsed, PLUGINS), DecodeSettings(weights=path)

    return build


# -- the coder -------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.booleans())
@settings(max_examples=60, deadline=None)
def test_gaussian_coder_returns_what_it_got(seed, count, dithered):
    rng = np.random.default_rng(seed)
    scales = np.exp(rng.uniform(-2, 5, (1, 1, count)))
    symbols = np.rint(rng.normal(0, scales * rng.choice([0.1, 1, 20]))).astype(np.int32)
    shift = rng.uniform(-0.5, 0.5, symbols.shape) if dithered else np.zeros(())
    data = encode_gaussian(symbols, shift, scales)
    assert np.array_equal(decode_gaussian(data, shift, scales), symbols)


def test_gaussian_coder_reaches_the_entropy():
    from scipy.stats import norm

    rng = np.random.default_rng(1)
    scales = np.exp(rng.uniform(-2, 3, (8, 32, 32)))
    shift = rng.uniform(-0.5, 0.5, scales.shape)
    symbols = np.rint(rng.normal(0, scales) - shift).astype(np.int32)
    at = symbols + shift
    probability = norm.cdf((at + 0.5) / scales) - norm.cdf((at - 0.5) / scales)
    ideal = -np.log2(probability).sum() / 8
    assert 0.995 * ideal < len(encode_gaussian(symbols, shift, scales)) < 1.005 * ideal + 8


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_hyper_coder_returns_what_it_got(seed):
    rng = np.random.default_rng(seed)
    first = rng.integers(-9, 3, 4).tolist()
    counts = [rng.integers(0, 900, rng.integers(1, 12)) + 1 for _ in first]
    tables = HyperTables(first, counts)
    symbols = tables.clip(rng.integers(-20, 20, (4, 3, 5)).astype(np.int32))
    data = encode_hyper(symbols, tables)
    assert np.array_equal(decode_hyper(data, symbols.shape, tables), symbols)


@given(st.binary(max_size=80), st.integers(1, 40))
@settings(max_examples=300, deadline=None)
def test_coders_take_any_bytes(data, count):
    scales = np.linspace(0.11, 200, count).reshape(1, 1, count)
    tables = HyperTables([-1], [np.array([5, 1, 8])])
    for decode in (
        lambda: decode_gaussian(data, np.zeros(()), scales),
        lambda: decode_hyper(data, (1, 1, count), tables),
    ):
        with contextlib.suppress(BadFile):
            assert decode().shape == (1, 1, count)


# -- the codec -------------------------------------------------------------------


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_decoder_shows_what_the_encoder_saw(architecture, coding, build):
    codec, how = build(coding, architecture)
    pixels = picture(70, 129)
    encoded = codec.encode(pixels, 2.5 if architecture.endswith("vbr") else 3)
    decoded = decode_file(encoded.data, how).pixels
    assert encoded.reconstruction.std() > 1
    assert np.array_equal(decoded, encoded.reconstruction)
    assert sum(encoded.parts.values()) == 8 * len(encoded.data)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (17, 31), (513, 511)])
def test_any_size_and_mode(size, channels, coding, build):
    codec, how = build(coding)
    pixels = picture(*size, channels=channels)
    decoded = decode_file(codec.encode(pixels, 3).data, how).pixels
    assert decoded.shape == pixels.shape
    if channels == 4:
        assert np.array_equal(decoded[:, :, 3], pixels[:, :, 3])


@pytest.mark.parametrize("architecture", ["bmshj2018-hyperprior", "mbt2018-mean"])
def test_rounded_latents_cost_and_show_what_compressai_s_do(architecture, build, folder):
    pixels = picture(128, 192)
    codec, how = build("quantized", architecture)
    spec = PLUGINS.codec(architecture)
    options = spec.loaded.options_class(weights=str(weights_file(folder, architecture)))
    theirs = spec.loaded(spec, options, PLUGINS).encode(pixels, 3)
    ours = codec.encode(pixels, 3)
    assert ours.parts["y"] == pytest.approx(theirs.parts["y"], rel=0.01)
    assert theirs.parts["z"] - 128 <= ours.parts["z"] <= theirs.parts["z"]
    shown = decode_file(ours.data, how).pixels.astype(int)
    # float64 beside float32: now and then a value in the middle between two integers
    assert np.abs(shown - decode_file(theirs.data, how).pixels).mean() < 0.2


@pytest.mark.parametrize("sampler", ["greedy", "importance", "trellis"])
def test_every_sampler(sampler, build):
    codec, how = build("sampled", sampler={"sampler": sampler})
    encoded = codec.encode(picture(64, 64), 3)
    assert np.array_equal(decode_file(encoded.data, how).pixels, encoded.reconstruction)
    assert encoded.kl_bits["y"] > 0


def test_dither_makes_the_error_uniform(build):
    codec, _ = build("dithered")
    model = codec.model(3)
    pixels = picture(256, 256)
    latents = model.latents(pixels)
    seen = []
    model.picture = lambda y, *_: seen.append(y) or pixels
    try:
        assert codec.encode(pixels, 3).reconstruction is pixels
    finally:
        del model.picture
    error = (seen[0] - latents.y).reshape(-1)
    quantiles = np.quantile(error, np.linspace(0, 1, 11))
    assert quantiles == pytest.approx(np.linspace(-0.5, 0.5, 11), abs=0.04)
    assert abs(np.corrcoef(error, latents.y.reshape(-1))[0, 1]) < 0.05


def test_the_proposal_of_a_sample_is_never_narrower_than_its_target(build):
    codec, _ = build("sampled", width=2.0)
    encoded = codec.encode(picture(64, 64), 3)
    bound = codec.theoretical(picture(64, 64), 3)
    assert encoded.kl_bits["y"] < bound.bits
    narrow, _ = build("sampled", width=0.1)
    assert narrow.theoretical(picture(64, 64), 3).bits > 2 * bound.bits
    rounded, _ = build("quantized")
    assert rounded.theoretical(picture(64, 64), 3) is None


@pytest.mark.parametrize("architecture", AUTOREGRESSIVE)
def test_autoregressive_models_are_refused(architecture):
    spec = PLUGINS.codec("latents")
    options = spec.loaded.options_class(architecture=architecture)
    with pytest.raises(UsageError, match=f"{architecture} is autoregressive.*as a whole"):
        spec.loaded(spec, options, PLUGINS)


def test_autoregressive_models_are_refused_in_evaluations(tmp_path, monkeypatch, capsys):
    from toolkit import cli

    command = ["encode", str(tmp_path / "a.png"), str(tmp_path / "a.qf"), "--codec"]
    command += ["mbt2018-mean-sampled", "-o", "architecture=cheng2020-attn"]
    monkeypatch.setattr("sys.argv", ["toolkit", *command])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "cheng2020-attn is autoregressive" in error
    assert error.count("\n") == 1


def test_other_architectures_have_no_gaussian_latents():
    spec = PLUGINS.codec("latents")
    options = spec.loaded.options_class(architecture="bmshj2018-factorized")
    with pytest.raises(UnknownName, match="no architecture 'bmshj2018-factorized'"):
        spec.loaded(spec, options, PLUGINS)


def changed(data, **fields):
    return write_container(dataclasses.replace(read_container(data), **fields))


@pytest.mark.parametrize("coding", CODINGS)
def test_other_entropy_parameters_and_weights_are_reported(coding, build):
    codec, how = build(coding)
    _, other = build(coding, seed=1)
    data = codec.encode(picture(64, 64), 3).data
    parameters = read_container(data).parameters
    wrong = parameters[:-1] + bytes([parameters[-1] ^ 1])
    with pytest.raises(Mismatch):
        decode_file(changed(data, parameters=wrong), how)
    with pytest.raises(OtherModel):
        decode_file(data, other)


@pytest.mark.parametrize("coding", CODINGS)
def test_damaged_files(coding, build):
    codec, how = build(coding)
    data = codec.encode(picture(48, 80, channels=4), 3).data
    container = read_container(data)
    rng = random.Random(3)
    refused = 0
    for _ in range(60):
        fields = {}
        streams = []
        for stream in container.streams:
            content = bytearray(stream.data)
            for _ in range(rng.choice([0, 1, 5])):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            streams.append(Stream(stream.name, bytes(content[: rng.choice([None, None, 8])])))
        fields["streams"] = tuple(streams)
        if rng.random() < 0.2:
            fields["width"] = rng.randrange(1, 200)
        if rng.random() < 0.2:
            fields["parameters"] = rng.randbytes(len(container.parameters))
        bad = changed(data, **fields)
        try:
            assert decode_file(bad, how).pixels.shape[0] == 48
        except (BadFile, UsageError):
            refused += 1
    assert refused > 10


def test_identity_names_all_that_a_result_depends_on(build):
    known = build("sampled")[0].identity()
    assert known["sampler"]["sampler"] == "greedy"
    assert [*known["weights"]] == ["mbt2018-mean-random0.safetensors"]
    assert known["compressai"][0].isdigit()
    assert "sampler" not in build("quantized")[0].identity()
    assert build("quantized", seed=1)[0].identity() != build("quantized")[0].identity()


# -- files that must stay readable -------------------------------------------------

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "latents").glob("*.qf"))


@pytest.fixture(scope="session")
def golden_weights(tmp_path_factory):
    """The golden weights with empty tables of scales, which are large and aren't used."""
    state = load_file(GOLDEN[0].with_name("weights.safetensors"))
    for name in ("_offset", "_quantized_cdf", "_cdf_length"):
        state[f"gaussian_conditional.{name}"] = torch.IntTensor()
    path = tmp_path_factory.mktemp("golden") / "weights.safetensors"
    save_file(state, path, metadata={"architecture": "mbt2018-mean"})
    return path


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files_decode_for_good(path, golden_weights):
    shown = decode_file(path.read_bytes(), DecodeSettings(weights=golden_weights)).pixels
    expected = as_pixels(path.with_suffix(".png"))
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).max() <= 1


def test_the_golden_files_are_there():
    assert len(GOLDEN) == 9
