"""How many bits each latent element will take, guessed from the levels above it, in integers.

What an element takes follows from its prior's scale, and that from the samples of the levels
above. A decoder has it as a float, which another processor computes a little otherwise; what says
how a stream is to be read must be the same everywhere. So a small network, trained after the ladder
and stored with its weights, guesses it anew from the samples alone, in whole numbers (integer
networks: Ballé, Johnston and Minnen 2019, "Integer networks for data compression with
latent-variable models"). A guess that is off costs some bits, no more.

A guess is in octaves: an element of x octaves is one whose variance is 2^x times the noise that is
allowed, which takes about ``1/2 log2(1 + 2^x)`` bits. Guesses are multiples of 1/8 octave.

The network: maps of whole numbers from 0 to 255, made of the samples of one level after the
other and of the map so far,

    h_1 = next(c_0),  h_{l+1} = next(h_l, c_l),  guess_l = head_l(h_l)

where ``next`` is a 3x3 convolution with kernels of int8, a shift to the right for each channel, and
a cut to the range; ``head`` a 1x1 convolution, likewise. Biases depend on the file's rate. h is
repeated where the next level is finer. Sums stay below 2^53, so that float64 products, in whatever
order, are exact.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import UsageError
from toolkit.sampling.contract import Array

PREFIX = "rates."
"""Begins the names of its tensors in a weights file."""
STEPS = 8
"""A guess is a multiple of 1/8 octave ..."""
LOWEST, HIGHEST = -128, 127
"""... within these many steps."""
SAMPLE_STEPS = 16
"""Samples are taken in steps of 1/16 ..."""
FARTHEST = 64
"""... up to this many."""
MAP_STEPS = 16
"""What 1 is in a map."""
BRIGHTEST = 255
RATE_PARTS = 65535
"""A file's rate is a multiple of 1 / this."""
_ROWS = 64
"""Of a map, worked on at once."""
_LARGEST_BIAS = 2**40
_LONGEST_SHIFT = 40

Ints8 = NDArray[np.int8]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Layer:
    """A convolution in whole numbers."""

    kernel: Floats
    """(9 or 1, outputs, inputs), each of int8."""
    bias: NDArray[np.int64]
    """(knots, outputs): at rates equally far apart from 0 to 1, interpolated between them."""
    shift: NDArray[np.int64]
    """(outputs): places that sums are moved to the right."""

    def bias_at(self, rate: int) -> Floats:
        """(outputs) at a rate in parts of ``RATE_PARTS``."""
        below, part = divmod(rate * (len(self.bias) - 1), RATE_PARTS)
        above = min(below + 1, len(self.bias) - 1)
        mixed = self.bias[below] * (RATE_PARTS - part) + self.bias[above] * part
        return (mixed // RATE_PARTS).astype(np.float64)

    def apply(self, sums: Floats, rate: int, low: int, high: int) -> Floats:
        """Bias, shift and cut of sums (outputs, ...), in place."""
        each = (-1,) + (1,) * (sums.ndim - 1)
        sums += self.bias_at(rate).reshape(each)
        sums *= np.ldexp(1.0, -self.shift).reshape(each)
        np.floor(sums, out=sums)
        return np.clip(sums, low, high, out=sums)


@dataclass(frozen=True)
class RatePredictor:
    """Guesses the rates of a ladder's levels; part of its weights."""

    first: Layer
    """Of the top level, which knows nothing but the file's rate: no kernel."""
    nexts: tuple[Layer, ...]
    heads: tuple[Layer, ...]

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any]) -> RatePredictor | None:
        """From those of a weights file whose names begin with ``rates.``, without that; None where
        there are none.

        Raises ValueError for others than ``RateNetwork.tensors`` makes.
        """
        if not tensors:
            return None
        arrays = {name: np.asarray(value) for name, value in tensors.items()}
        layers = {name.rpartition(".")[0] for name in arrays}
        levels = sum(bool(re.fullmatch(r"head[0-9]+", name)) for name in layers)
        names = ["first", *(f"{kind}{i}" for i in range(levels) for kind in ("next", "head"))]
        parts = ("kernel", "bias", "shift")
        if set(arrays) != {f"{name}.{part}" for name in names for part in parts}:
            raise ValueError("tensors of the rates' prediction are missing, or too many")
        read = {name: _layer(*(arrays[f"{name}.{part}"] for part in parts)) for name in names}
        nexts, heads = (
            tuple(read[f"{kind}{i}"] for i in range(levels)) for kind in ("next", "head")
        )
        found = cls(read["first"], nexts, heads)
        found._check()
        return found

    @property
    def depth(self) -> int:
        """How many levels it is for."""
        return 1 + len(self.heads)

    def _check(self) -> None:
        """Raises ValueError where layers don't fit together."""
        width, above = 0, self.first.kernel.shape[1]
        for step, head in zip(self.nexts, self.heads, strict=True):
            nine, outputs, inputs = step.kernel.shape
            if nine != 9 or inputs != width + above:
                raise ValueError("layers of the rates' prediction don't fit together")
            one, channels, width = head.kernel.shape
            if one != 1 or width != outputs:
                raise ValueError("layers of the rates' prediction don't fit together")
            above = channels

    def begin(self, rate: float) -> RateWalk:
        """Down the ladder of one file, of this rate in [0, 1]."""
        return RateWalk(self, round(rate * RATE_PARTS))


class RateWalk:
    """Down one file's ladder: ``octaves`` of a level if they are wanted, then ``add`` its sample,
    level by level. Raises UsageError for levels that it wasn't made for."""

    def __init__(self, predictor: RatePredictor, rate: int) -> None:
        self._predictor, self._rate, self._at = predictor, rate, 0
        self._map: NDArray[np.uint8] | None = None

    def octaves(self, shape: tuple[int, int, int]) -> Ints8:
        """Guesses for the next level, int8 (C, H, W), in units of 1/8 octave."""
        layer = self._head(shape)
        if self._map is None:
            one = layer.apply(np.zeros(shape[0]), self._rate, LOWEST, HIGHEST)
            return np.broadcast_to(one.astype(np.int8)[:, None, None], shape)
        self._map = _resized(self._map, shape[1:])
        out = np.empty(shape, np.int8)
        for top in range(0, shape[1], _ROWS):
            rows = self._map[:, top : top + _ROWS].astype(np.float64)
            sums = np.tensordot(layer.kernel[0], rows, 1)
            out[:, top : top + _ROWS] = layer.apply(sums, self._rate, LOWEST, HIGHEST)
        return out

    def _head(self, shape: tuple[int, ...]) -> Layer:
        heads = (self._predictor.first, *self._predictor.heads)
        if self._at == len(heads) or shape[0] != heads[self._at].kernel.shape[1]:
            raise UsageError("the weights' prediction of rates is of another model")
        return heads[self._at]

    def add(self, sample: Array) -> None:
        """The sample (C, H, W) of the next level, float32."""
        self._head(sample.shape)
        self._at += 1
        if self._at == self._predictor.depth:
            self._map = None
            return
        layer = self._predictor.nexts[self._at - 1]
        _, height, width = sample.shape
        if self._map is not None:
            self._map = _resized(self._map, (height, width))
        out = np.empty((layer.kernel.shape[1], height, width), np.uint8)
        for top in range(0, height, _ROWS):
            bottom = min(top + _ROWS, height)
            known = self._known(sample, max(0, top - 1), min(height, bottom + 1))
            edges = (0, 0), (int(top == 0), int(bottom == height)), (1, 1)
            sums = _convolved(np.pad(known, edges), layer.kernel)
            out[:, top:bottom] = layer.apply(sums, self._rate, 0, BRIGHTEST)
        self._map = out

    def _known(self, sample: Array, top: int, bottom: int) -> Floats:
        """Map and sample, (channels, rows, W), whole numbers."""
        steps = np.rint(sample[:, top:bottom] * np.float32(SAMPLE_STEPS))
        steps = np.clip(steps, -FARTHEST, FARTHEST).astype(np.float64)
        if self._map is None:
            return steps
        return np.concatenate([self._map[:, top:bottom].astype(np.float64), steps])


def _convolved(padded: Floats, kernel: Floats) -> Floats:
    """3x3: (outputs, H, W) of (inputs, H + 2, W + 2)."""
    _, rows, columns = padded.shape
    height, width = rows - 2, columns - 2
    flat = padded.reshape(len(padded), -1)
    span = (height - 1) * columns + width
    sums = np.zeros((kernel.shape[1], height * columns))
    for place in range(9):
        start = place // 3 * columns + place % 3
        sums[:, :span] += kernel[place] @ flat[:, start : start + span]
    return np.ascontiguousarray(sums.reshape(-1, height, columns)[:, :, :width])


def _resized(values: NDArray[np.uint8], sides: tuple[int, ...]) -> NDArray[np.uint8]:
    """A map of as many positions as the next level has: repeated, or one of several."""
    for axis, side in enumerate(sides, 1):
        there = values.shape[axis]
        if there != side:
            values = np.take(values, np.arange(side) * there // side, axis)
    return values


def _layer(kernel: Any, bias: Any, shift: Any) -> Layer:
    fits = kernel.ndim == 3 and bias.ndim == 2 and bias.shape[1:] == shift.shape
    if not fits or kernel.shape[1] != len(shift) or len(bias) < 2:
        raise ValueError("shapes of the rates' prediction don't fit")
    whole = all(np.array_equal(part, np.rint(part)) for part in (kernel, bias, shift))
    small = np.abs(kernel).max(initial=0) <= 127 and np.abs(bias).max(initial=0) < _LARGEST_BIAS
    if not (whole and small and ((shift >= 0) & (shift <= _LONGEST_SHIFT)).all()):
        raise ValueError("the rates' prediction isn't in whole numbers, or they are too large")
    return Layer(kernel.astype(np.float64), bias.astype(np.int64), shift.astype(np.int64))
