"""Bjontegaard deltas: the mean difference of rate, in percent, at equal quality.

Bjontegaard, VCEG-M33 (2001), by the library ``bjontegaard``: Akima interpolation of log rate
over quality, PCHIP beside it (Herglotz et al. 2022). MS-SSIM counts as -10 log10(1 - x).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from toolkit.errors import UnknownName
from toolkit_evaluation.metrics.fidelity import similarity_decibels
from toolkit_evaluation.run.measure import Row

if TYPE_CHECKING:
    from toolkit_evaluation.results.table import Table

Curve = list[tuple[float, float]]
"""(bpp, quality in dB) of each point."""
METRICS = ("psnr", "ms_ssim")
FEWEST = 4
"""Points that a curve needs for a BD-rate."""


@dataclass(frozen=True)
class BDRate:
    """Rate difference in percent of ``codec`` against ``anchor`` at equal quality."""

    codec: str
    anchor: str
    metric: str
    image: str | None
    """None for the curve of the means."""
    theoretical: bool
    akima: float | None
    pchip: float | None
    overlap: tuple[float, float] | None
    """The qualities in dB that both curves reach; the difference is the mean over these."""
    overlap_share: float
    """Their share of all qualities that either curve reaches; below 0.75 read with care."""


def bd_rate(anchor: Curve, test: Curve, method: str = "akima") -> float | None:
    """BD-rate in percent; None for curves that don't overlap or have too few points.

    Points that cost more bits than another for no more quality are left out first, since a
    curve must rise.
    """
    import numpy as np
    from bjontegaard import bd_rate as library

    first, second = rising(anchor), rising(test)
    if min(len(first), len(second)) < FEWEST or overlap(first, second)[0] is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the overlap, which is shown with every figure
        value = library(
            *map(np.asarray, zip(*first, strict=True)),
            *map(np.asarray, zip(*second, strict=True)),
            method=method,
            require_matching_points=False,
            min_overlap=0,
        )
    return float(value) if math.isfinite(value) else None


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


@dataclass(frozen=True)
class Matched:
    """Two codecs at one quality: what the anchor spent on a point, and what the other would."""

    codec: str
    metric: str
    theoretical: bool
    quality: float
    """In dB, of a point of the anchor's."""
    anchor_bpp: float
    bpp: float

    @property
    def percent(self) -> float:
        """Bits that the codec spends more (above 0) or less."""
        return 100 * (self.bpp / self.anchor_bpp - 1)


def matched_pairs(
    anchor_rows: Sequence[Row], rows: Sequence[Row], metric: str, theoretical: bool = False
) -> list[Matched]:
    """At the quality of each of the anchor's points that the other curve reaches: both rates.

    The other's is read off a straight line, in log rate, between its neighbouring points.
    """
    test = rising(curve_of(rows, metric, theoretical))
    pairs: list[Matched] = []
    for anchor_bpp, quality in rising(curve_of(anchor_rows, metric)):
        for (low, worse), (high, better) in pairwise(test):
            if worse <= quality <= better:
                share = (quality - worse) / (better - worse)
                bpp = low * (high / low) ** share
                codec = rows[0]["codec"]
                pairs.append(Matched(codec, metric, theoretical, quality, anchor_bpp, bpp))
                break
    return pairs


def curve_of(rows: Sequence[Row], metric: str, theoretical: bool = False) -> Curve:
    """The curve of rows or means of one codec (and one image), in dB."""
    prefix = "theoretical_" if theoretical else ""
    curve: Curve = []
    for row in rows:
        rate, quality = row.get(f"{prefix}bpp"), row.get(f"{prefix}{metric}")
        if metric == "ms_ssim":
            quality = similarity_decibels(quality)
        if rate is not None and quality is not None:
            curve.append((rate, quality))
    return curve


def compare(
    anchor_rows: Sequence[Row], rows: Sequence[Row], metric: str, theoretical: bool = False
) -> BDRate:
    """BD-rate of ``rows`` (one codec) against ``anchor_rows`` (another one)."""
    anchor = rising(curve_of(anchor_rows, metric))
    test = rising(curve_of(rows, metric, theoretical))
    both, share = overlap(anchor, test)
    return BDRate(
        codec=rows[0]["codec"],
        anchor=anchor_rows[0]["codec"],
        metric=metric,
        image=rows[0].get("image"),
        theoretical=theoretical,
        akima=bd_rate(anchor, test, "akima"),
        pchip=bd_rate(anchor, test, "pchip"),
        overlap=both,
        overlap_share=share,
    )


def bd_rates(table: Table, anchor: str | None) -> list[BDRate]:
    """Of every codec of the table against ``anchor``: on the means first, then by image.

    Empty without an anchor; raises UnknownName for one that the table lacks.
    """
    if anchor is None:
        return []
    if anchor not in table.codecs:
        raise UnknownName("codec in these results", anchor, table.codecs)
    results: list[BDRate] = []
    good = [row for row in table.rows if row["status"] == "ok"]
    images = dict.fromkeys(row["image"] for row in good)
    groups = [table.means, *([row for row in good if row["image"] == name] for name in images)]
    for rows in groups:
        by_codec: dict[str, list[Row]] = {}
        for row in rows:
            by_codec.setdefault(row["codec"], []).append(row)
        if anchor not in by_codec:
            continue
        for codec, own in by_codec.items():
            for theoretical in (False, True):
                if theoretical and all(row["theoretical_bpp"] is None for row in own):
                    continue
                if codec == anchor and not theoretical:
                    continue
                results += [compare(by_codec[anchor], own, m, theoretical) for m in METRICS]
    return results
