"""Targets for the conformance kit, in units of the prior."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from toolkit.sampling.contract import Array

Shape = tuple[int, int, int]


@dataclass
class Targets:
    """A level N(d, r^2) to be coded, and what to call it in messages."""

    label: str
    d: Array
    r: Array

    def __post_init__(self) -> None:
        self.d = np.ascontiguousarray(self.d, np.float32)
        self.r = np.ascontiguousarray(self.r, np.float32)

    @property
    def shape(self) -> Shape:
        channels, height, width = self.d.shape
        return channels, height, width


def _filled(label: str, shape: Shape, d: ArrayLike, r: ArrayLike) -> Targets:
    return Targets(f"{label} {shape}", np.broadcast_to(d, shape), np.broadcast_to(r, shape))


def special_targets() -> Iterator[Targets]:
    """The edges: targets that equal the prior, narrow, wide or far ones, odd shapes."""
    small = (3, 5, 7)
    for shape in ((1, 1, 1), small):
        yield _filled("KL 0", shape, 0, 1)
        yield _filled("nearly KL 0", shape, 1e-4, 1 - 1e-4)
        yield _filled("wide, s = 3", shape, 0.3, 3)
        yield _filled("half a bit", shape, 0.5, 0.7)
        yield _filled("narrow, s = 1e-6", shape, 0.7, 1e-6)
        yield _filled("far, d = 12", shape, -12, 0.5)
        yield _filled("very far, d = 1e4", shape, 1e4, 0.01)
    generator = np.random.default_rng(5)
    mixed = (5, 4, 6)
    d = generator.normal(size=mixed) * np.geomspace(0.01, 30, 5)[:, None, None]
    yield Targets("all kinds in one level", d, np.exp(generator.normal(-1, 2, mixed)))
    yield _filled("one latent a channel", (40, 1, 1), 1, 0.4)
    yield _filled("one row", (1, 1, 300), -0.5, 0.6)
    yield _filled("one column", (2, 200, 1), 0.2, 0.9)


def random_targets(count: int, seed: int) -> Iterator[Targets]:
    """Small levels of all shapes, rates from none to several bits a latent, some beyond."""
    generator = np.random.default_rng([seed, 1])
    for number in range(count):
        channels, height, width = (int(x) for x in generator.integers(1, (9, 8, 8)))
        shape = (channels, height, width)
        wild = number % 5 == 0
        log_r = generator.normal(-0.5, 1.0, (channels, 1, 1)) + generator.normal(0, 0.3, shape)
        r = np.exp(np.clip(log_r, -7, 1.5 if wild else 0))
        spread = np.sqrt(np.maximum(0, 1 - r * r)) * (3 if wild else 1)
        yield Targets(f"random level {number} {shape}", generator.normal(size=shape) * spread, r)


def typical_level(shape: Shape, seed: int) -> Targets:
    """Rates of channels falling geometrically from 4 to 0.002 bits a latent, varying over the
    image; d^2 + r^2 averages 1, as under a calibrated prior."""
    generator = np.random.default_rng([seed, 2])
    channels, height, width = shape
    rates = generator.permutation(np.geomspace(4, 0.002, channels))[:, None, None]
    waves = [np.sin(2 * np.pi * (np.arange(n) / n + generator.random())) for n in (height, width)]
    rates = rates * np.exp(0.3 * (waves[0][:, None] + waves[1][None]))
    r = np.exp2(-np.minimum(rates, 6)).astype(np.float32)
    d = generator.standard_normal(shape) * np.sqrt(1 - r * r)
    return Targets(f"typical level {shape}", d, r)


def narrow_targets(shape: Shape, bits: float, seed: int) -> Targets:
    """A level of about so many bits a latent."""
    generator = np.random.default_rng([seed, 3])
    r = np.full(shape, 2.0**-bits)
    d = np.clip(generator.standard_normal(shape), -2, 2)
    return Targets(f"{bits:g} bits a latent {shape}", d, r)
