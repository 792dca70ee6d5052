"""Rate-distortion curves: what BD-rates, plots and reports are made of."""

from __future__ import annotations

from collections.abc import Iterable

from toolkit_evaluation.metrics.fidelity import similarity_decibels
from toolkit_evaluation.results.row import HasFigures

Curve = list[tuple[float, float]]
"""(bpp, quality in dB) of each point."""


def curve_of(rows: Iterable[HasFigures], metric: str, theoretical: bool = False) -> Curve:
    """The curve of rows or means of one codec (and one image), in dB."""
    prefix = "theoretical_" if theoretical else ""
    curve: Curve = []
    for row in rows:
        rate, quality = row.value(f"{prefix}bpp"), row.value(f"{prefix}{metric}")
        if metric == "ms_ssim":
            quality = similarity_decibels(quality)
        if rate is not None and quality is not None:
            curve.append((rate, quality))
    return curve


def rising(curve: Curve) -> Curve:
    """The points that no cheaper point equals in quality, by rate."""
    kept: Curve = []
    for rate, quality in sorted(curve, key=lambda point: (point[0], -point[1])):
        if rate > 0 and (not kept or (quality > kept[-1][1] and rate > kept[-1][0])):
            kept.append((rate, quality))
    return kept


def overlap(first: Curve, second: Curve) -> tuple[tuple[float, float] | None, float]:
    """Qualities in dB that both curves reach, and their share of those that either does."""
    if not first or not second:
        return None, 0.0
    ends = [(min(q), max(q)) for q in ([p[1] for p in curve] for curve in (first, second))]
    low, high = max(e[0] for e in ends), min(e[1] for e in ends)
    if high <= low:
        return None, 0.0
    return (low, high), (high - low) / (max(e[1] for e in ends) - min(e[0] for e in ends))
