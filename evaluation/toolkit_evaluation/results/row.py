"""A row: one image, coded by one codec at one point, and all that was measured; and their means.

Rows are kept as lines of JSON. Their keys are the fields of ``Row``, with every metric beside them
under its own name; what is null is not known, or can't be said in JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

METRICS = ("psnr", "ms-ssim")
"""The metrics of rows where none are named."""
FIGURES = (
    "bytes",
    "bpp",
    "psnr",
    "ms_ssim",
    "theoretical_bpp",
    "theoretical_psnr",
    "theoretical_ms_ssim",
    "upper_share",
    "encode_s",
    "decode_s",
    "coder_encode_s",
    "coder_decode_s",
    "network_encode_s",
    "network_decode_s",
    "encode_peak_mib",
    "decode_peak_mib",
)
"""Numbers of a row that a mean is taken of; metrics beyond the first two come on top."""
_EARLIER_NAMES = {"level2_share": "upper_share"}
"""Keys in rows of earlier versions."""


class HasFigures(Protocol):
    """A row, a mean, or a point of a published curve."""

    def value(self, name: str) -> float | None:
        """The figure or metric of this name, None where it isn't known."""
        ...


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one image, codec and point; of one that failed, ``error`` says why."""

    key: str
    """Hash of all that the result depends on."""
    image: str
    codec: str
    """Name of the preset."""
    point: float | None = None
    """In the units of the codec's rate parameter; None where there was no image to code."""
    target: str | None = None
    """What the point was searched for to meet, as in ``bpp<=0.5``."""
    pixels_sha256: str = ""
    """Of the original's bytes, its shape not included."""
    preset_identity: str = ""
    codec_identity: str = ""
    status: Literal["ok", "error"]
    error: str | None = None
    transient: bool = False
    """Whether memory, disk or another resource gave out: such rows are never kept."""
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    bytes: int | None = None
    bpp: float | None = None
    metrics: dict[str, float | None] = {}
    """Column name -> value, of all metrics that were asked for."""
    theoretical_bpp: float | None = None
    """Of an ideal coder, as are the next two (thesis, section 4.2)."""
    theoretical_psnr: float | None = None
    theoretical_ms_ssim: float | None = None
    upper_share: float | None = None
    """Share of the levels above the one nearest the image in the bits of all levels."""
    encode_s: float | None = None
    """Seconds of the fastest try; ``coder``: in the entropy coder or sampler alone."""
    decode_s: float | None = None
    coder_encode_s: float | None = None
    coder_decode_s: float | None = None
    network_encode_s: float | None = None
    network_decode_s: float | None = None
    encode_peak_mib: float | None = None
    decode_peak_mib: float | None = None
    separate: bool = False
    """Whether coding and decoding had a process each."""
    matches_encoder: bool | None = None
    """Whether the file decoded to what the encoder expected, where that is known."""
    parts: dict[str, float] = {}
    """Bits of the file by what they are for."""
    kl_bits: dict[str, float] = {}
    """KL[q || p] in bits of each level, top level first."""
    file_sha256: str | None = None
    decoded_sha256: str | None = None
    file: str | None = None
    """The kept file."""
    seconds: float = 0.0
    """That making the row took, everything included."""

    def __repr__(self) -> str:
        at = f" at {self.point_label}" if self.point_label else ""
        told = self.error if self.error else _short(self)
        return f"Row({self.image}, {self.codec}{at}: {told})"

    @property
    def ok(self) -> bool:
        """Whether there is a result."""
        return self.status == "ok"

    @property
    def psnr(self) -> float | None:
        """In dB; None for equal images too."""
        return self.metrics.get("psnr")

    @property
    def ms_ssim(self) -> float | None:
        """From 0 to 1."""
        return self.metrics.get("ms_ssim")

    @property
    def point_label(self) -> str:
        """Point or target, for people; empty for an image that wasn't read."""
        return point_label(self.point, self.target)

    def value(self, name: str) -> float | None:
        """The figure or metric of this name, None where it isn't known."""
        found: float | None = self.metrics.get(name)
        return found if found is not None else getattr(self, name, None)

    def to_dict(self) -> dict[str, Any]:
        """The row as plain values: what a line of ``rows.jsonl`` holds."""
        plain: dict[str, Any] = {}
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if name == "metrics":
                plain |= value
            elif name == "transient":
                plain |= {name: True} if value else {}
            elif self.ok or name in _FIELDS_OF_ERRORS:
                plain[name] = dict(value) if isinstance(value, dict) else value
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Row:
        """The row of such values; unknown names with numbers count as metrics.

        Raises msgspec.ValidationError for values that no row has.
        """
        values = {_EARLIER_NAMES.get(name, name): value for name, value in plain.items()}
        known = set(cls.__struct_fields__) - {"metrics"}
        metrics = {
            name: value
            for name, value in values.items()
            if name not in known and (value is None or isinstance(value, (int, float)))
        }
        fields = {name: value for name, value in values.items() if name in known}
        return msgspec.convert({**fields, "metrics": metrics}, cls)


_FIELDS_OF_ERRORS = {
    *("key", "image", "codec", "point", "target", "pixels_sha256"),
    *("preset_identity", "codec_identity", "status", "error", "file", "seconds"),
    *FIGURES,
}


class Mean(msgspec.Struct, frozen=True, kw_only=True):
    """The means over the images of one codec at one point, or with one target."""

    codec: str
    target: str | None
    images: int
    """Rows that succeeded."""
    point: float | None
    failures: int
    """Rows that didn't."""
    figures: dict[str, float | None]
    """Figure or metric -> its mean over the images that have it, None if none has."""
    mismatches: int
    """Files that decoded to something else than the encoder expected."""

    def __repr__(self) -> str:
        return f"Mean({self.codec} at {self.point_label}, {self.images} images: {_short(self)})"

    @property
    def point_label(self) -> str:
        """Point or target, for people."""
        return point_label(self.point, self.target)

    def value(self, name: str) -> float | None:
        """The mean of this figure or metric, None where no image has it."""
        return self.figures.get(name)

    def to_dict(self) -> dict[str, Any]:
        """The mean as plain values, every figure under its own name."""
        plain: dict[str, Any] = {}
        for name in self.__struct_fields__:
            plain |= self.figures if name == "figures" else {name: getattr(self, name)}
        return plain


def means_of(rows: Iterable[Row], metrics: Sequence[str] = ()) -> list[Mean]:
    """Means over the images of each codec and point or target, in the order of the rows;
    ``metrics`` are columns beyond ``FIGURES``."""
    groups: dict[tuple[str, float | str], list[Row]] = {}
    for row in rows:
        at = row.target or row.point
        if at is not None:
            groups.setdefault((row.codec, at), []).append(row)
    return [_mean(group, (*FIGURES, *metrics)) for group in groups.values()]


def _mean(group: list[Row], names: Sequence[str]) -> Mean:
    good = [row for row in group if row.ok]
    first = group[0]
    points = [row.point for row in good] if first.target else [first.point]
    return Mean(
        codec=first.codec,
        target=first.target,
        images=len(good),
        point=mean_of(points),
        failures=len(group) - len(good),
        figures={name: mean_of(row.value(name) for row in good) for name in names},
        mismatches=sum(row.matches_encoder is False for row in good),
    )


def _short(one: HasFigures) -> str:
    """Rate and quality, as far as they are known."""
    found = ((one.value("bpp"), "{:.4f} bpp"), (one.value("psnr"), "{:.2f} dB"))
    return ", ".join(form.format(value) for value, form in found if value is not None)


def mean_of(values: Iterable[float | None]) -> float | None:
    """The mean of those that are known, None where none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def point_label(point: float | None, target: str | None) -> str:
    """A point or target for people; empty where there is neither."""
    if target:
        return target
    return "" if point is None else f"{point:g}"


def column(metric: str) -> str:
    """Name of a metric in rows: ``ms-ssim`` is ``ms_ssim``."""
    return metric.replace("-", "_")


def finite(value: float) -> float | None:
    """The number, or None for NaN and infinities, which JSON can't say."""
    value = float(value)
    return value if math.isfinite(value) else None
