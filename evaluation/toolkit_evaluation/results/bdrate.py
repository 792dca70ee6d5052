"""Bjontegaard deltas: the mean difference of rate, in percent, at equal quality.

Bjontegaard, VCEG-M33 (2001), by the library ``bjontegaard``: Akima interpolation of log rate
over quality, PCHIP beside it (Herglotz et al. 2022). MS-SSIM counts as -10 log10(1 - x).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from toolkit.errors import UnknownName
from toolkit_evaluation.results.curve import Curve, curve_of, overlap, rising
from toolkit_evaluation.results.row import HasFigures, Mean, Row, finite

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
    return finite(value)


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
    anchor_rows: Sequence[HasFigures],
    rows: Sequence[Row | Mean],
    metric: str,
    theoretical: bool = False,
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
                codec = rows[0].codec
                pairs.append(Matched(codec, metric, theoretical, quality, anchor_bpp, bpp))
                break
    return pairs


def compare(
    anchor_rows: Sequence[Row | Mean],
    rows: Sequence[Row | Mean],
    metric: str,
    theoretical: bool = False,
    image: str | None = None,
) -> BDRate:
    """BD-rate of ``rows`` (one codec) against ``anchor_rows`` (another one)."""
    anchor = rising(curve_of(anchor_rows, metric))
    test = rising(curve_of(rows, metric, theoretical))
    both, share = overlap(anchor, test)
    return BDRate(
        codec=rows[0].codec,
        anchor=anchor_rows[0].codec,
        metric=metric,
        image=image,
        theoretical=theoretical,
        akima=bd_rate(anchor, test, "akima"),
        pchip=bd_rate(anchor, test, "pchip"),
        overlap=both,
        overlap_share=share,
    )


def bd_rates(rows: Sequence[Row], means: Sequence[Mean], anchor: str) -> list[BDRate]:
    """Of every codec against ``anchor``: on the means first, then by image.

    Raises UnknownName for an anchor that isn't among the rows' codecs.
    """
    codecs = dict.fromkeys(row.codec for row in rows)
    if anchor not in codecs:
        raise UnknownName("codec in these results", anchor, codecs)
    good = [row for row in rows if row.ok]
    results = _of_group(means, anchor, None)
    for image in dict.fromkeys(row.image for row in good):
        results += _of_group([row for row in good if row.image == image], anchor, image)
    return results


def _of_group(rows: Sequence[Row | Mean], anchor: str, image: str | None) -> list[BDRate]:
    """Those of one image, or of the means; none where the anchor isn't there."""
    by_codec: dict[str, list[Row | Mean]] = {}
    for row in rows:
        by_codec.setdefault(row.codec, []).append(row)
    if anchor not in by_codec:
        return []
    results: list[BDRate] = []
    for codec, own in by_codec.items():
        for theoretical in (False, True):
            if theoretical and all(row.value("theoretical_bpp") is None for row in own):
                continue
            if codec == anchor and not theoretical:
                continue
            results += [compare(by_codec[anchor], own, m, theoretical, image) for m in METRICS]
    return results
