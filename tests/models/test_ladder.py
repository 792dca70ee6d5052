"""A ladder of three levels, the example's, through everything that the host does with ladders."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from training_runs import make_photos

from toolkit.codec.base import DecodeSettings
from toolkit.codec.ladder_codec import LadderCodec
from toolkit.codec.level_table import pack_table, read_table
from toolkit.entropy_model.network import load_network
from toolkit.errors import UsageError
from toolkit.format.container import (
    BadFile,
    Container,
    OtherModel,
    Stream,
    UnknownPlugin,
    read_container,
    write_container,
)
from toolkit.format.weights import load_weights
from toolkit.options import parse_options
from toolkit.plugin.loader import load_plugins
from toolkit.sampling.capabilities import FitsBytes
from toolkit.sampling.choice import pack_choice
from toolkit.sampling.contract import kl_bits
from toolkit.testing.pictures import picture
from toolkit.testing.training import export, images
from toolkit.training.loop import Trainer
from toolkit.training.recipe import Recipe
from toolkit_evaluation import EvaluationSettings, evaluate
from toolkit_evaluation.run.recorded import read_run
from toolkit_evaluation.thesis.cross_sections import cross_sections

Pixels = NDArray[np.uint8]
EXAMPLES = Path(__file__).parents[2] / "examples"
PLUGINS = load_plugins([EXAMPLES / "entropy_model.py"])
SPEC = PLUGINS.entropy_model("tiny")
OPTIONS = {"width": 8, "channels": [2, 3, 4]}
LEVELS = ["level3", "level2", "level1"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the toy ladder, after a second of training: its latents carry something."""
    torch.manual_seed(0)
    model = SPEC.loaded(parse_options(SPEC.loaded.options_class, OPTIONS, "test"))
    x, optimizer = images(4, 64, 64, 0), torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(80):
        result = model.training_pass(x, torch.rand(4))
        bits = torch.stack(list(result.bits.values())).sum(0).mean() / 64**2
        loss = 0.02 * 255**2 * (x - result.x_hat).square().mean() + bits
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return export(model, SPEC, tmp_path_factory.mktemp("weights"))


def codec(weights: Path | None, **options: Any) -> LadderCodec:
    values = {"weights": str(weights or ""), **options}
    parsed = parse_options(LadderCodec.options_class, values, "test")
    return LadderCodec(SPEC.codec_spec, parsed, PLUGINS)  # type: ignore[arg-type]


def decoded(weights: Path, data: bytes) -> Pixels:
    """By a decoder that knows nothing but the file and the weights."""
    return codec(None).decode(data, DecodeSettings(weights=weights)).pixels


# -- coding ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLUGINS.samplers)
@pytest.mark.parametrize("refine", [False, True])
def test_every_sampler_codes_every_level(weights: Path, name: str, refine: bool) -> None:
    pixels = picture(40, 56)
    encoder = codec(weights, levels={"default": {"sampler": name, "refine": refine}})
    encoded = encoder.encode(pixels, 0.5)
    np.testing.assert_array_equal(decoded(weights, encoded.data), encoded.reconstruction)
    container = read_container(encoded.data)
    assert [stream.name for stream in container.streams] == ["z"]
    levels = read_table(PLUGINS, container).levels
    assert [level.choice.spec.name for level in levels] == [name] * 3
    assert b"".join(level.data or b"" for level in levels) == container.streams[0].data
    assert list(encoded.kl_bits) == LEVELS
    assert all(bits > 0 for bits in encoded.kl_bits.values())
    assert sum(encoded.parts.values()) == 8 * len(encoded.data)
    assert set(encoded.parts) == {"header", *LEVELS, *(f"{name}.side" for name in LEVELS)}


def test_each_level_can_have_a_sampler_of_its_own(weights: Path) -> None:
    levels = {
        "level3": {"sampler": "importance"},
        "level2": {"sampler": "greedy", "bits": 6},
        "level1": {"nu": 9},
    }
    encoder = codec(weights, levels=levels)
    encoded = encoder.encode(picture(40, 56), 0.5)
    container = read_container(encoded.data)
    told = encoder.describe(container)
    assert told["level3"]["sampler"] == "importance"
    assert told["level2"]["bits"] == 6
    assert told["level1"] == {**told["level1"], "sampler": "trellis", "nu": 9}
    np.testing.assert_array_equal(decoded(weights, encoded.data), encoded.reconstruction)


def test_levels_that_it_has_not_are_refused(weights: Path) -> None:
    with pytest.raises(UsageError, match="no level4: the model of these weights has 3"):
        codec(weights, levels={"level4": {"sampler": "greedy"}}).encode(picture(8, 8), 0.5)
    with pytest.raises(UsageError, match="'top' is no level"):
        codec(weights, levels={"top": {}})


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("steps", [0, 2])
def test_a_file_size_is_hit_from_below(weights: Path, channels: int, steps: int) -> None:
    pixels = picture(64, 72, channels)
    encoder = codec(weights, refinement_steps=steps)
    assert encoder.fits_bytes
    natural = len(encoder.encode(pixels, 0.5).data)
    for size in (natural - 7, natural, natural + 30):
        encoded = encoder.encode_within(pixels, 0.5, size)
        assert size - 1 <= len(encoded.data) <= size
        np.testing.assert_array_equal(decoded(weights, encoded.data), encoded.reconstruction)
        assert sum(encoded.parts.values()) == 8 * len(encoded.data)
    with pytest.raises(UsageError):
        encoder.encode_within(pixels, 0.5, 60)


def test_samplers_that_fill_nothing_keep_to_a_budget(weights: Path) -> None:
    encoder = codec(weights, levels={"default": {"sampler": "greedy"}})
    assert not isinstance(encoder.samplers()["level1"], FitsBytes)
    size = len(encoder.encode(picture(40, 56), 0.5).data)
    assert len(encoder.encode_within(picture(40, 56), 0.5, size).data) == size
    with pytest.raises(UsageError, match=f"{size} bytes at rate 0.5, not {size - 1}"):
        encoder.encode_within(picture(40, 56), 0.5, size - 1)


# -- theory and looking at latents -----------------------------------------------------------


def test_theory_is_the_sum_over_all_levels(weights: Path) -> None:
    encoder, pixels = codec(weights), picture(64, 72)
    targets = encoder.targets(pixels, 0.5)
    assert [target.name for target in targets] == LEVELS
    assert [target.d.shape for target in targets] == [(2, 8, 9), (3, 8, 9), (4, 8, 9)]
    total = sum(float(kl_bits(target.d, target.r).sum()) for target in targets)
    bound = encoder.theoretical(pixels, 0.5)
    assert bound is not None
    assert bound.bits == pytest.approx(total + 2 * np.log2(total + 1))
    assert bound.pixels.shape == pixels.shape
    encoded = encoder.encode(pixels, 0.5)
    assert encoded.kl_bits["level3"] == pytest.approx(
        float(kl_bits(targets[0].d, targets[0].r).sum())
    )


def test_latent_levels_are_the_targets_in_the_networks_units(weights: Path) -> None:
    encoder, pixels = codec(weights), picture(64, 72)
    levels = encoder.latent_levels(pixels, 0.5)
    assert [level.name for level in levels] == LEVELS
    for level, target in zip(levels, encoder.targets(pixels, 0.5), strict=True):
        assert (level.prior_scale > 0).all()
        own = (level.posterior_mean - level.prior_mean) / level.prior_scale
        np.testing.assert_allclose(own, target.d, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(level.posterior_scale / level.prior_scale, target.r, rtol=1e-4)
        errors = (level.sample - level.posterior_mean) / level.posterior_scale
        assert 0.7 < float(errors.std()) < 1.3


def test_the_harness_measures_and_draws_all_levels(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.fromarray(picture(64, 72)).save(tmp_path / "photos" / "a.png")
    registry = tmp_path / "registry.yaml"
    registry.write_text(
        f"presets:\n  mine: {{codec: tiny, options: {{weights: {weights}}}, sweep: [0.5]}}\n"
    )
    out = tmp_path / "results"
    settings = EvaluationSettings(out=out)
    table = evaluate("mine", tmp_path / "photos", settings, plugins=PLUGINS, registry=registry)
    assert [row.status for row in table.rows] == ["ok"]
    notices: list[str] = []
    paths = cross_sections(read_run(out, notices.append), PLUGINS, None, out, notices.append)
    assert paths
    assert all(path.stat().st_size > 1000 for path in paths)
    rows = list(csv.DictReader((out / "latents.csv").open()))
    assert {row["level"] for row in rows} == set(LEVELS)


# -- refinement, training -----------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.2, 0.9])
def test_refinement_lowers_the_objective(weights: Path, rate: float) -> None:
    objective = load_weights(weights).objective
    low, high = objective["lambda_min"], objective["lambda_max"]
    pixels = picture(64, 72, seed=3)

    def cost(steps: int) -> float:
        encoded = codec(weights, refinement_steps=steps).encode(pixels, rate)
        shown = decoded(weights, encoded.data)
        np.testing.assert_array_equal(shown, encoded.reconstruction)
        mse = float(np.mean(np.square(pixels.astype(float) - shown)))
        return float(low * (high / low) ** rate * mse + 8 * len(encoded.data) / shown[..., 0].size)

    plain, few, many = (cost(steps) for steps in (0, 3, 12))
    assert few < plain
    assert many < 0.99 * plain


def test_training_makes_weights_that_code(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    values: dict[str, Any] = {
        "model": "tiny",
        "options": OPTIONS,
        "data": {"folder": str(make_photos(tmp_path / "photos")), "hold_out": 1},
        "schedule": {"steps": 60, "warmup": 5, "phases": [{"until": 1, "crop": 64, "batch": 4}]},
        "objective": {"kl_warmup": 10},
        "threads": 1,
        "precision": "float32",
    }
    plan = parse_options(Recipe, values, "test")
    torch.manual_seed(plan.seed)
    model = SPEC.loaded(parse_options(SPEC.loaded.options_class, plan.options, "test"))
    trainer = Trainer(model, plan, tmp_path / "run")
    x, rate = images(2, 64, 64, 5), torch.tensor([0.3, 0.8])

    def loss() -> float:
        torch.manual_seed(1)
        with torch.no_grad():
            found = trainer.objective(x, rate, model.training_pass(x, rate), 1000)
        assert torch.isfinite(found.value)
        return float(found.value)

    before = loss()
    trainer.run()
    assert loss() < 0.7 * before

    from toolkit.training.export import export as written

    path = written(trainer)
    assert load_weights(path).model == "tiny"
    encoded = codec(path).encode(picture(17, 31), 0.7)
    np.testing.assert_array_equal(decoded(path, encoded.data), encoded.reconstruction)


# -- files that lie ---------------------------------------------------------------------------


def damaged(data: bytes, random: np.random.Generator, cut: bool) -> bytes:
    """With one to three bytes overwritten, and perhaps cut short."""
    changed = bytearray(data)
    for _ in range(random.integers(1, 4)):
        changed[random.integers(len(changed))] = random.integers(256)
    return bytes(changed[: random.integers(len(changed))] if cut else changed)


def outcome(weights: Path, container: Container) -> str:
    """Of decoding a container of 64 x 72 pixels, behind checksums that are right."""
    try:
        shown = decoded(weights, write_container(container))
    except BadFile:
        return "error"
    assert shown.shape == (64, 72, 3)
    return "picture"


def test_damage_behind_valid_checksums_is_a_picture_or_a_named_error(weights: Path) -> None:
    """To the stream of each level, with a table that says its length, and to the table."""
    encoded = codec(weights).encode(picture(64, 72), 0.4)
    container = read_container(encoded.data)
    table = read_table(PLUGINS, container)
    choices = [level.choice for level in table.levels]
    random = np.random.default_rng(5)
    of_streams, of_tables = set(), set()
    for number in range(60):
        data = [level.data for level in table.levels if level.data is not None]
        data[number % 3] = damaged(data[number % 3], random, cut=number % 4 == 3)
        parameters, stream = pack_table(table.rate, table.seed, choices, data)
        bad = replace(container, parameters=parameters, streams=(stream,))
        of_streams.add(outcome(weights, bad))
        wrong = damaged(container.parameters, random, cut=number % 4 == 3)
        of_tables.add(outcome(weights, replace(container, parameters=wrong)))
    assert of_streams == of_tables == {"picture", "error"}


def test_tables_must_be_those_of_the_levels(weights: Path) -> None:
    container = read_container(codec(weights).encode(picture(24, 24), 0.4).data)
    table = read_table(PLUGINS, container)
    choices, data = zip(*((level.choice, level.data) for level in table.levels), strict=True)

    def packed(count: int) -> Container:
        parameters, stream = pack_table(
            table.rate, table.seed, (*choices, choices[-1])[:count], (*data, data[-1])[:count]
        )
        return replace(container, parameters=parameters, streams=(stream,))

    assert packed(3) == container
    (stream,) = container.streams
    one = "one stream expected, 'z'"
    tag, parameters = len(b"\0\0\0"), container.parameters
    assert parameters[tag : tag + 3] == b"\2tc"
    for bad, message in (
        (packed(2), "3 levels expected, 2 there"),
        (packed(4), "3 levels expected, 4 there"),
        (replace(container, streams=()), one),
        (
            replace(container, streams=(stream, replace(stream, name="y"))),
            "one stream expected, 'z'",
        ),
        (replace(container, streams=(replace(stream, name="tc"),)), one),
        (replace(container, streams=(replace(stream, data=stream.data[:-1]),)), "bytes of levels"),
        (replace(container, streams=(replace(stream, data=stream.data + b"!"),)), "its table says"),
        (replace(container, parameters=parameters[:tag] + b"\0\1"), "first level has no sampler"),
        (replace(container, parameters=parameters[:-1]), "levels expected|can't be read"),
    ):
        with pytest.raises(BadFile, match=message):
            decoded(weights, write_container(bad))
    unknown = replace(container, parameters=parameters[:4] + b"zz" + parameters[6:])
    with pytest.raises(UnknownPlugin, match="isn't installed"):
        decoded(weights, write_container(unknown))
    for short in (b"", b"\0\0"):
        with pytest.raises(BadFile, match="parameters of the wrong size"):
            decoded(weights, write_container(replace(container, parameters=short)))
    with pytest.raises(OtherModel, match="--weights"):
        codec(None).decode(write_container(container))


def test_files_of_stream_version_1_have_a_stream_for_each_level(weights: Path) -> None:
    encoded = codec(weights).encode(picture(64, 72), 0.4)
    container = read_container(encoded.data)
    top, middle, last = (
        Stream(f"{3 - index}{level.choice.spec.tag}", pack_choice(level.choice) + level.data)
        for index, level in enumerate(read_table(PLUGINS, container).levels)
        if level.data is not None
    )
    head = container.parameters[:3]
    first = replace(container, stream_version=1, parameters=head, streams=(top, middle, last))
    np.testing.assert_array_equal(decoded(weights, write_container(first)), encoded.reconstruction)
    for streams, message in (
        ((top, middle), "stream '3tc' where level2 should be"),
        ((middle, last), "3 levels expected, 2 there"),
        ((replace(top, name="4tc"), top, middle, last), "3 levels expected, 4 there"),
        ((middle, top, last), "stream '2tc' where level3 should be"),
        ((top, middle, replace(last, name="tc")), "stream 'tc' where level1 should be"),
        ((top, middle, replace(last, name="1zz")), "a sampler that isn't installed"),
    ):
        with pytest.raises(BadFile, match=message):
            decoded(weights, write_container(replace(first, streams=streams)))
    for parameters in (b"", b"\0\0", b"\0\0\0\0"):
        with pytest.raises(BadFile, match="parameters of the wrong size"):
            decoded(weights, write_container(replace(first, parameters=parameters)))


def test_weights_of_another_depth_are_another_model(weights: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = parse_options(SPEC.loaded.options_class, {**OPTIONS, "channels": [2, 4]}, "test")
    flat = export(SPEC.loaded(options), SPEC, tmp_path)
    assert load_network(SPEC, flat, "float32").model.depth == 2
    data = codec(weights).encode(picture(24, 24), 0.4).data
    with pytest.raises(OtherModel, match="the file was made with weights"):
        decoded(flat, data)
