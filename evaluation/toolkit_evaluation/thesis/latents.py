"""What the latents of an image look like: bits and dependencies of each channel of a level."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.sampling.contract import kl_bits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toolkit.codec.base import LatentLevel

    Planes = NDArray[np.float32]
    Numbers = NDArray[np.float64]


def standardised(level: LatentLevel) -> Planes:
    """The sample in units of the prior, (C, H, W): N(0, 1) where posterior and prior agree."""
    return (level.sample - level.prior_mean) / level.prior_scale


def channel_bits(level: LatentLevel) -> Numbers:
    """KL[q || p] in bits of each channel, (C,)."""
    d = (level.posterior_mean - level.prior_mean) / level.prior_scale
    bits: Numbers = kl_bits(d, level.posterior_scale / level.prior_scale).sum((1, 2))
    return bits


def highest_rate_channels(level: LatentLevel, count: int) -> list[int]:
    """The ``count`` channels with most bits, most first."""
    return [int(channel) for channel in np.argsort(-channel_bits(level), kind="stable")[:count]]


def neighbour_correlation(planes: Planes) -> Numbers:
    """Correlation of each channel with itself, one position to the side, (C,): the mean of
    both directions. 0 for a channel that is constant, or too small to have neighbours.
    """
    pairs = ((planes[:, :, 1:], planes[:, :, :-1]), (planes[:, 1:], planes[:, :-1]))
    found = [_correlation(a, b) for a, b in pairs if a.shape[1] * a.shape[2] > 1]
    return np.mean(found, axis=0) if found else np.zeros(len(planes))


def _correlation(a: Planes, b: Planes) -> Numbers:
    first, second = (
        planes.reshape(len(planes), -1).astype(np.float64) - planes.mean((1, 2))[:, None]
        for planes in (a, b)
    )
    spread = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    return np.divide((first * second).sum(1), spread, out=np.zeros(len(a)), where=spread > 0)


def explained(level: LatentLevel) -> Numbers:
    """Share of the sample's variance that the prior mean accounts for, (C,): 0 for a constant
    prior or sample, below 0 where the prior mean is worse than none."""
    left = (level.sample - level.prior_mean).astype(np.float64).var((1, 2))
    total = level.sample.astype(np.float64).var((1, 2))
    ratio: Numbers = np.divide(left, total, out=np.ones_like(total), where=total > 0)
    return 1.0 - ratio


def statistics(level: LatentLevel) -> Iterator[dict[str, Any]]:
    """One record for each channel, most bits first; before them one of all, where correlations
    and shares are means over the channels, weighted by bits."""
    bits = channel_bits(level)
    columns = {
        "neighbours": neighbour_correlation(level.sample),
        "neighbours_standardised": neighbour_correlation(standardised(level)),
        "explained": explained(level),
    }
    total = float(bits.sum())
    weights = bits / total if total > 0 else np.full(len(bits), 1 / len(bits))
    means = {name: float((weights * values).sum()) for name, values in columns.items()}
    yield {"level": level.name, "channel": "all", "kl_bits": total, "share": 1.0, **means}
    for channel in highest_rate_channels(level, len(bits)):
        yield {
            "level": level.name,
            "channel": channel,
            "kl_bits": float(bits[channel]),
            "share": float(bits[channel]) / total if total > 0 else 0.0,
            **{name: float(values[channel]) for name, values in columns.items()},
        }
