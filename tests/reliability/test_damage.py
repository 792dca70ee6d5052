"""Files damaged behind valid checksums, through decoding: a picture or a named error, soon."""

from __future__ import annotations

import json
import random
import runpy
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mutants import mutated

from toolkit.codec.base import DecodeSettings
from toolkit.codec.opening import decode_file
from toolkit.format.container import BadFile, Container, read_container, write_container
from toolkit.plugin.loader import load_plugins
from toolkit.sampling.choice import SamplerChoice
from toolkit.sampling.randomness import SharedRandom
from toolkit_evaluation.run.memory import PeakMemory, high_water_mark

pytestmark = pytest.mark.slow
GOLDEN = Path(__file__).parents[1] / "golden"
PLUGINS = load_plugins()
A_CODEC, A_SAMPLER = 1000, 3000
LONGEST_S, MOST_MIB = 5.0, 300.0
CODINGS = sorted(
    {(path.parent.name, path.stem.partition("-")[0]) for path in GOLDEN.glob("*/*.qf")}
)
SAMPLERS = sorted(PLUGINS.samplers)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of each folder of golden files."""
    found = {folder: GOLDEN / folder / "weights.safetensors" for folder, _ in CODINGS}
    # without the coder's tables, which are large: CompressAI makes them again
    with_tables = runpy.run_path(str(GOLDEN / "latents" / "make.py"))["with_tables"]
    return {**found, "latents": with_tables(found["latents"])}


def survives(decode: Callable[[], np.ndarray], shape: tuple[int, ...]) -> bool:
    """Whether damage was noticed; what was decoded all the same has its shape and is finite."""
    start = time.process_time()
    try:
        found = decode()
    except BadFile:
        return True
    finally:
        assert time.process_time() - start < LONGEST_S
    assert found.shape == shape
    assert np.isfinite(found).all()
    return False


def damaged_containers(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """The same container with parameters or a stream damaged, its checksums right."""
    container = read_container(data)
    while True:
        yield write_container(_damaged(container, rng))


def _damaged(container: Container, rng: random.Random) -> Container:
    at = rng.randrange(-1, len(container.streams))
    if at < 0:
        return replace(container, parameters=mutated(container.parameters, rng))
    streams = list(container.streams)
    streams[at] = replace(streams[at], data=mutated(streams[at].data, rng))
    return replace(container, streams=tuple(streams))


@pytest.mark.parametrize(("folder", "name"), CODINGS)
def test_files_damaged_behind_their_checksums(
    folder: str, name: str, weights: dict[str, Path]
) -> None:
    rng = random.Random(f"{folder} {name}")
    settings = DecodeSettings(weights=weights[folder])
    files = [
        path.read_bytes()
        for path in sorted((GOLDEN / folder).glob(f"{name}-*.qf"))
        if "512x768" not in path.name
    ]
    for data in files:
        decode_file(data, settings)  # what is loaded and compiled isn't counted
    before, noticed = high_water_mark() or 0.0, 0
    sources = [(damaged_containers(data, rng), read_container(data)) for data in files]
    with PeakMemory() as peak:
        for number in range(A_CODEC):
            source, whole = sources[number % len(sources)]
            shape = (whole.height, whole.width, {"L": 1, "RGB": 3, "RGBA": 4}[whole.mode])
            data = next(source)
            noticed += survives(lambda data=data: decode_file(data, settings).pixels, shape)
    assert noticed > A_CODEC // 20
    assert peak.mebibytes is None or peak.mebibytes - before < MOST_MIB


@pytest.mark.parametrize("name", SAMPLERS)
def test_damaged_streams_of_samplers(name: str) -> None:
    rng = random.Random(name)
    choice = SamplerChoice.from_options(PLUGINS, {"sampler": name}, name)
    sampler, shape = choice.build(), (8, 12, 10)
    generator = np.random.default_rng(5)
    d = generator.standard_normal(shape).astype(np.float32)
    r = generator.uniform(0.2, 1, shape).astype(np.float32)
    random_numbers = SharedRandom(7, 1)
    data = sampler.encode(d, r, random_numbers).data
    sampler.decode(data, shape, random_numbers)
    before, noticed = high_water_mark() or 0.0, 0
    with PeakMemory() as peak:
        for _ in range(A_SAMPLER):
            bad = mutated(data, rng)
            noticed += survives(lambda bad=bad: sampler.decode(bad, shape, random_numbers), shape)
    assert noticed > A_SAMPLER // 20
    assert peak.mebibytes is None or peak.mebibytes - before < MOST_MIB


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": "greedy", "blocks": "sent", "width": 1, "steps": 64, "bits": 16},
        {"sampler": "greedy", "blocks": "sent", "width": 65536, "steps": 64, "bits": 1},
        {"sampler": "importance", "blocks": "sent", "width": 1},
        *({"sampler": name} for name in SAMPLERS if name != "harsha"),  # a bit each at least
    ],
    ids=json.dumps,
)
def test_short_streams_of_large_levels_take_microseconds_an_element(
    options: dict[str, object],
) -> None:
    """Under 150 bytes for 655,360 latent elements: honest, of a picture with nothing in it."""
    shape, random_numbers = (160, 64, 64), SharedRandom(7, 1)
    sampler = SamplerChoice.from_options(PLUGINS, options, "test").build()
    coded = sampler.encode(np.zeros(shape, np.float32), np.ones(shape, np.float32), random_numbers)
    assert len(coded.data) < 150
    start = time.process_time()
    decoded = sampler.decode(coded.data, shape, random_numbers)
    assert time.process_time() - start < LONGEST_S
    np.testing.assert_array_equal(decoded, coded.values)
