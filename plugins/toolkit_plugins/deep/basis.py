"""Orthonormal bases of image blocks, by which the deep ladder begins as a transform codec.

Coefficients of 4x4 blocks are a discrete cosine transform of three decorrelated colours; two and
four times larger blocks add Haar wavelets over the coefficients of the smaller ones. Maps come
from ``pixel_unshuffle``, whose channels are (channel, row, column); coefficients are ordered
(frequency, colour), then (band, coefficient).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

COLOURS = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (-0.5, 1.0, -0.5))
"""Brightness, red against blue, green against both: rows of an orthogonal matrix."""
COLOUR_VARIANCES = (3.0, 0.12, 0.06)
"""Of the colours' pixels in photographs, about, in units of a channel's variance."""
NEIGHBOURS = 0.95
"""Correlation of neighbouring pixels."""
LEAST_VARIANCE = 0.01
"""Real pictures have more fine detail than correlation alone allows."""
HAAR = ((1, 1, 1, 1), (1, -1, 1, -1), (1, 1, -1, -1), (1, -1, -1, 1))


def colours() -> Tensor:
    """(3, 3), orthonormal rows."""
    matrix = torch.tensor(COLOURS, dtype=torch.float64)
    return matrix / matrix.norm(dim=1, keepdim=True)


def cosines(n: int) -> Tensor:
    """(n, n): the discrete cosine transform, orthonormal."""
    k = torch.arange(n, dtype=torch.float64)
    matrix = torch.cos(math.pi * (k[None] + 0.5) * k[:, None] / n) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


def haar(channels: int) -> Tensor:
    """(4 C, 4 C): the four phases of each channel to four bands of all channels."""
    bands = torch.tensor(HAAR, dtype=torch.float64) / 2
    same = torch.eye(channels, dtype=torch.float64)
    return torch.einsum("bp,ce->bcep", bands, same).reshape(4 * channels, -1)


def basis4() -> Tensor:
    """(48, 48): the phases of 4x4 blocks of an image to their coefficients."""
    d = cosines(4)
    return torch.einsum("uy,vx,kc->uvkcyx", d, d, colours()).reshape(48, 48)


def variances(side: int) -> Tensor:
    """Of each coefficient of blocks of ``side`` pixels, (3 side^2,), in pictures whose
    neighbouring pixels correlate by ``NEIGHBOURS``, and at least ``LEAST_VARIANCE``."""
    blocks = torch.einsum("kc,ncyx->nkyx", colours(), _pictures(side))
    i = torch.arange(side, dtype=torch.float64)
    correlation = NEIGHBOURS ** (i[:, None] - i[None]).abs()
    of_colours = torch.einsum("nkyx,yY,xX,nkYX->nk", blocks, correlation, correlation, blocks)
    found = of_colours @ torch.tensor(COLOUR_VARIANCES, dtype=torch.float64)
    return found.clamp_min(LEAST_VARIANCE)


def _pictures(side: int) -> Tensor:
    """(3 side^2, 3, side, side): each coefficient's basis picture."""
    count = 3 * side * side
    pixels = torch.eye(count, dtype=torch.float64).reshape(count, 3, side, side)
    maps = torch.einsum("of,nfhw->nohw", basis4(), F.pixel_unshuffle(pixels, 4))
    while maps.shape[-1] > 1:
        maps = torch.einsum("of,nfhw->nohw", haar(maps.shape[1]), F.pixel_unshuffle(maps, 2))
    return maps[:, :, 0, 0].T.reshape(count, 3, side, side)
