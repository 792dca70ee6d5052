"""How an array of any shape lies as a level (C, H, W), which is what samplers code.

Samplers send a rate for each channel, so that a channel had better hold values of about equal KL
divergence, and many of them. An array is cut into channels either along one of its axes, or,
flattened, into rows of one length. The encoder chooses and says which.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import UsageError
from toolkit.format.errors import BadHeader
from toolkit.format.varint import Fields, varint
from toolkit.sampling.contract import kl_bits

if TYPE_CHECKING:
    from toolkit.sampling.contract import Array

LONGEST_SIDE = 2**15
"""Of a level: tiles of samplers grow to this."""
MOST_CHANNELS = 4096
"""Of a layout that is chosen: samplers work channel by channel."""
LEAST_ROW = 64
CHANNEL_BITS = 3.0
"""About what it takes to send the rate of a channel."""
GAIN = 0.07
"""Bits that a rate of its own saves per squared bit by which a value's channel differs from the
mean. Measured with the trellis on levels of up to 1, 2.5 and 5 bits a value: 0.04, 0.07, 0.15."""
_LARGEST_KL = 8.0
"""No value sends more bits."""


@dataclass(frozen=True)
class ArrayLayout:
    """A way of cutting an array of shape ``shape`` into channels."""

    shape: tuple[int, ...]
    axis: int | None = None
    """The axis of the channels; None: the array is flattened into rows ..."""
    row: int = 1
    """... of so many values, the last filled up."""

    @property
    def values(self) -> int:
        """Values of the array."""
        return math.prod(self.shape)

    @property
    def channels(self) -> int:
        """Channels of the level."""
        return -(-self.values // self.row) if self.axis is None else self.shape[self.axis]

    @property
    def level(self) -> tuple[int, int, int]:
        """The shape (C, H, W)."""
        if self.axis is None:
            return (self.channels, *_folded(self.row))
        rest = self.shape[: self.axis] + self.shape[self.axis + 1 :]
        height, width = math.prod(rest[:-1]), math.prod(rest[-1:])
        if max(height, width) > LONGEST_SIDE:
            height, width = _folded(height * width)
        return self.channels, height, width

    def to_level(self, array: Array, fill: float) -> Array:
        """An array of this shape as (C, H, W), ``fill`` where there is nothing of it."""
        channels, height, width = self.level
        if self.axis is None:
            flat = array.reshape(-1)
            out = np.full((channels, self.row), fill, np.float32)
            out.reshape(-1)[: len(flat)] = flat
            rows = out
        else:
            rows = np.moveaxis(array, self.axis, 0).reshape(channels, -1)
        if rows.shape[1] == height * width:
            return np.ascontiguousarray(rows).reshape(channels, height, width)
        padded = np.full((channels, height * width), fill, np.float32)
        padded[:, : rows.shape[1]] = rows
        return padded.reshape(channels, height, width)

    def from_level(self, level: Array) -> Array:
        """The array of this shape that a level (C, H, W) holds."""
        rows = level.reshape(len(level), -1)
        if self.axis is None:
            return (
                np.ascontiguousarray(rows[:, : self.row])
                .reshape(-1)[: self.values]
                .reshape(self.shape)
            )
        rest = self.shape[: self.axis] + self.shape[self.axis + 1 :]
        array = rows[:, : math.prod(rest)].reshape(self.channels, *rest)
        return np.ascontiguousarray(np.moveaxis(array, 0, self.axis))


def _folded(count: int) -> tuple[int, int]:
    """Height and width, none above the longest side, of a channel of ``count`` values or more."""
    height = -(-count // LONGEST_SIDE)
    return height, -(-count // height)


def choose_layout(d: Array, r: Array, channel_axis: int | None = None) -> ArrayLayout:
    """The layout that promises the fewest bits for N(d, r^2) against N(0, 1).

    Arguments:
        d: targets' means, of any shape.
        r: targets' scales, shaped as ``d``.
        channel_axis: the axis of the channels, if it is known.

    Raises:
        UsageError: there is no such axis.
    """
    shape = d.shape
    if channel_axis is not None:
        if not -d.ndim <= channel_axis < d.ndim:
            raise UsageError(f"channel_axis {channel_axis} of an array of {d.ndim} dimensions")
        return ArrayLayout(shape, channel_axis % d.ndim)
    kl = np.clip(kl_bits(d, r), 0, _LARGEST_KL)
    kl -= kl.mean()
    return max(_candidates(shape), key=lambda layout: round(_saved(layout, kl)))


def _candidates(shape: tuple[int, ...]) -> Iterator[ArrayLayout]:
    """Layouts worth a look; of equals the first counts."""
    values = math.prod(shape)
    for axis, side in enumerate(shape):
        if 1 < side <= MOST_CHANNELS and side < values:
            yield ArrayLayout(shape, axis)
    trailing = {math.prod(shape[start:]) for start in range(1, len(shape))}
    even = {-(-values // 2**k) for k in range(13)}
    for row in sorted(trailing | even, reverse=True):
        if row == values or (row >= LEAST_ROW and values <= row * MOST_CHANNELS):
            yield ArrayLayout(shape, None, row)


def _saved(layout: ArrayLayout, kl: NDArray[np.float64]) -> float:
    """About how many bits channels with rates of their own save; ``kl``: less its mean."""
    if layout.axis is None:
        sums = np.add.reduceat(kl.reshape(-1), np.arange(0, kl.size, layout.row))
        counts = np.full(len(sums), layout.row)
        counts[-1] = kl.size - layout.row * (len(sums) - 1)
    else:
        sums = kl.sum(axis=tuple(k for k in range(kl.ndim) if k != layout.axis))
        counts = np.full(len(sums), kl.size // len(sums))
    return GAIN * float((sums * sums / counts).sum()) - CHANNEL_BITS * len(sums)


def pack_layout(layout: ArrayLayout) -> bytes:
    """The axis and 1; or 0 and the length of a row."""
    if layout.axis is not None:
        return varint(layout.axis + 1)
    return varint(0) + varint(layout.row)


def read_layout(fields: Fields, shape: tuple[int, ...]) -> ArrayLayout:
    """What ``pack_layout`` wrote. Raises BadHeader."""
    axis = fields.number()
    if axis > len(shape):
        raise BadHeader(f"channels along axis {axis - 1} of {len(shape)}; get a fresh copy")
    if axis:
        return ArrayLayout(shape, axis - 1)
    row = fields.number()
    if not 1 <= row <= math.prod(shape):
        raise BadHeader(f"rows of {row} of {math.prod(shape)} values; get a fresh copy")
    return ArrayLayout(shape, None, row)
