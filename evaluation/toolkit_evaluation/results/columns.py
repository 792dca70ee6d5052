"""Columns of a table of results: their titles, and what stands in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from toolkit_evaluation.results.row import Mean

CELLS: dict[str, Callable[[Mean], str]] = {
    "point": lambda mean: mean.point_label,
    "images": lambda mean: f"{mean.images}" + (f" (-{mean.failures})" if mean.failures else ""),
    "bpp": lambda mean: _number(mean.value("bpp"), 4),
    "ideal bpp": lambda mean: _number(mean.value("theoretical_bpp"), 4),
    "PSNR": lambda mean: _number(mean.value("psnr"), 2),
    "MS-SSIM": lambda mean: _number(mean.value("ms_ssim"), 4),
    "upper": lambda mean: _percentage(mean.value("upper_share")),
    "encode s": lambda mean: _number(mean.value("encode_s"), 3),
    "coder": lambda mean: _number(mean.value("coder_encode_s"), 3),
    "decode s": lambda mean: _number(mean.value("decode_s"), 3),
    "coder ": lambda mean: _number(mean.value("coder_decode_s"), 3),
}
"""Column -> what stands in it; ``coder`` is that part of the time before it."""
TIMES = ("encode s", "coder", "decode s", "coder ")


def columns_of(metrics: Sequence[str]) -> dict[str, Callable[[Mean], str]]:
    """``CELLS``, and behind MS-SSIM the other metrics that were asked for."""
    columns: dict[str, Callable[[Mean], str]] = {}
    for title, cell in CELLS.items():
        columns[title] = cell
        if title == "MS-SSIM":
            for name in metrics:
                columns[name.replace("_", "-")] = partial(_metric, name)
    return columns


def _metric(name: str, mean: Mean) -> str:
    return _number(mean.value(name), 4)


def _percentage(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
