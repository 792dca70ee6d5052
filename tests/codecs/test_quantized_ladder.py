"""The deep ladder's quantized twin: trains from the ladder's weights, codes what it decodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from random_models import picture
from training_runs import SMALL_DEEP, make_photos, recipe, trainer

from toolkit.codec.base import Codec
from toolkit.errors import InputError
from toolkit.format.container import BadFile, BadStream, read_container, write_container
from toolkit.options import parse_options
from toolkit.plugin.loader import load_plugins
from toolkit.training.export import export
from toolkit.training.recipe import Recipe
from toolkit_plugins.deep.quantized import symbol_bits
from toolkit_plugins.hyperprior.parameter_check import Mismatch


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model -> weights: the ladder's, and its twin's, that began with them."""
    photos = make_photos(tmp_path_factory.mktemp("photos"))
    out = tmp_path_factory.mktemp("runs")
    schedule = {"steps": 2, "warmup": 1, "phases": [{"until": 1, "crop": 64, "batch": 1}]}
    first = recipe(photos, model="deep-pln", options=SMALL_DEEP, schedule=schedule)
    start = trained(first, out / "ladder")
    second = recipe(
        photos,
        model="deep-pln-quantized",
        options=SMALL_DEEP,
        schedule=schedule,
        start={"weights": str(start)},
    )
    return {"deep-pln": start, "twin": trained(second, out / "twin")}


def trained(plan: Recipe, out: Path) -> Path:
    run = trainer(plan, out)
    run.run()
    return export(run)


@pytest.fixture(scope="module")
def codec(weights: dict[str, Path]) -> Codec:
    plugins = load_plugins()
    spec = plugins.codecs["deep-pln-quantized"]
    options = parse_options(spec.loaded.options_class, {"weights": str(weights["twin"])}, "test")
    made: Codec = spec.loaded(spec, options, plugins)
    return made


@pytest.mark.parametrize(("height", "width"), [(1, 1), (65, 97)])
@pytest.mark.parametrize("point", [0.0, 0.35, 1.0])
def test_decodes_what_the_encoder_showed(
    codec: Codec, height: int, width: int, point: float
) -> None:
    encoded = codec.encode(picture(height, width), point)
    np.testing.assert_array_equal(codec.decode(encoded.data).pixels, encoded.reconstruction)
    parts = encoded.parts
    assert sum(parts.values()) == 8 * len(encoded.data)
    if height > 1 and point > 0.3:
        assert parts["level1"] > 0


def test_more_bits_say_more(codec: Codec) -> None:
    image = picture(64, 64)
    sizes, errors = [], []
    for point in (0.0, 0.5, 1.0):
        encoded = codec.encode(image, point)
        sizes.append(len(encoded.data))
        errors.append(squared_error(image, encoded.reconstruction))
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < errors[0] / 1.5


def squared_error(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(((a.astype(float) - b) ** 2).mean())


def test_refuses_what_was_computed_otherwise(codec: Codec) -> None:
    container = read_container(codec.encode(picture(64, 64), 0.8).data)
    head = container.parameters
    other = head[:2] + bytes([head[2] ^ 1]) + head[3:]
    with pytest.raises(Mismatch, match="entropy parameters computed here"):
        codec.decode(write_container(changed(container, parameters=other)))


def test_refuses_streams_that_no_encoder_writes(codec: Codec) -> None:
    container = read_container(codec.encode(picture(64, 64), 0.8).data)
    with pytest.raises(BadStream, match="wrong size"):
        codec.decode(write_container(changed(container, parameters=b"\0")))
    with pytest.raises(BadStream, match="don't fit"):
        codec.decode(write_container(changed(container, parameters=container.parameters + b"\0")))
    stream = container.streams[0]
    cut = changed(stream, data=stream.data[:-1])
    with pytest.raises(BadStream, match="don't fit"):
        codec.decode(write_container(changed(container, streams=(cut,))))
    swapped = changed(stream, data=stream.data[::-1])
    with pytest.raises(BadFile):
        codec.decode(write_container(changed(container, streams=(swapped,))))


def changed(struct: Any, **values: Any) -> Any:
    from dataclasses import replace

    return replace(struct, **values)


def test_twin_begins_with_the_ladders_weights_and_not_the_reverse(
    weights: dict[str, Path], tmp_path: Path
) -> None:
    photos = make_photos(tmp_path)
    plan = recipe(
        photos, model="deep-pln", options=SMALL_DEEP, start={"weights": str(weights["twin"])}
    )
    with pytest.raises(InputError, match="another kind of model"):
        trainer(plan, tmp_path / "out")


def test_bits_are_those_of_a_gaussian_over_steps() -> None:
    k = torch.arange(-200.0, 201)
    for scale in (0.2, 1.0, 30.0):
        mass = 2 ** -symbol_bits(k.double(), torch.tensor(scale, dtype=torch.float64))
        assert float(mass.sum()) == pytest.approx(1, abs=1e-6)
