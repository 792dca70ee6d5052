"""The result of an evaluation: rows, their means, and what is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from toolkit_evaluation.run.measure import FIGURES, Row

if TYPE_CHECKING:
    from toolkit_evaluation.results.bdrate import BDRate


@dataclass(frozen=True)
class Table:
    """Rows (one for each image, codec and point) and what they come to."""

    rows: list[Row]
    metrics: tuple[str, ...] = ()
    """Columns of metrics beyond ``FIGURES`` that means are taken of."""
    anchor: str | None = None
    """Codec that BD-rates are against where none is named."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Codecs that couldn't run, and why."""
    means: list[Row] = field(init=False)
    """One for each codec and point: the means of the same figures over its images."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "means", means_of(self.rows, self.metrics))

    @property
    def failures(self) -> list[Row]:
        """Rows of images that failed."""
        return [row for row in self.rows if row["status"] != "ok"]

    @property
    def codecs(self) -> list[str]:
        """Names of the codecs, in the order of the rows."""
        return list(dict.fromkeys(row["codec"] for row in self.rows))

    def bd_rates(self, anchor: str | None = None) -> list[BDRate]:
        """BD-rate of every other codec against ``anchor``, on the means and on each image.

        Raises UnknownName for an anchor that isn't among the codecs.
        """
        from toolkit_evaluation.results.bdrate import bd_rates

        return bd_rates(self, anchor or self.anchor)

    def plot(self, path: Path | str, reference: Path | None = None) -> None:
        """Rate-distortion curves as a PNG or SVG file, by the suffix of ``path``."""
        from toolkit_evaluation.report.figure import rate_distortion_figure, save
        from toolkit_evaluation.results.reference import read_references

        curves = read_references(reference) if reference else []
        save(rate_distortion_figure(self, curves), Path(path))

    def to_json(self) -> bytes:
        """``{"rows": [...], "means": [...], "skipped": {codec: why}}``."""
        whole = {"rows": self.rows, "means": self.means, "skipped": self.skipped}
        plain = msgspec.json.encode(whole)
        return msgspec.json.format(plain, indent=2) + b"\n"


def means_of(rows: Iterable[Row], metrics: Sequence[str] = ()) -> list[Row]:
    """Means over the images of each codec and point or target, in the order of the rows.

    A figure's mean is over the images that have it, None if none has; ``images`` counts the
    rows that succeeded, ``failures`` the others.
    """
    groups: dict[tuple[str, float | str], list[Row]] = {}
    for row in rows:
        aim = row.get("target") or row["point"]
        if aim is not None:
            groups.setdefault((row["codec"], aim), []).append(row)
    return [_mean(group, metrics) for group in groups.values()]


def aim_of(row: Row) -> str:
    """Point or target of a row or mean, for people; empty for an image that wasn't read."""
    if row.get("target"):
        return str(row["target"])
    return "" if row["point"] is None else f"{row['point']:g}"


def _mean(group: list[Row], metrics: Sequence[str]) -> Row:
    good = [row for row in group if row["status"] == "ok"]
    codec, target = group[0]["codec"], group[0].get("target")
    points = [row["point"] for row in good] if target else [group[0]["point"]]
    mean: dict[str, Any] = {"codec": codec, "target": target, "images": len(good)}
    mean["point"] = sum(points) / len(points) if points else None
    mean["failures"] = len(group) - len(good)
    for name in (*FIGURES, *metrics):
        values = [row[name] for row in good if row.get(name) is not None]
        mean[name] = sum(values) / len(values) if values else None
    mean["mismatches"] = sum(row.get("matches_encoder") is False for row in good)
    return mean
