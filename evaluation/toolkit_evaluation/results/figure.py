"""Rate-distortion curves as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import UsageError
from toolkit.format.files import write_bytes_atomically
from toolkit_evaluation.results.curve import curve_of
from toolkit_evaluation.results.row import HasFigures, Mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from toolkit_evaluation.results.reference import Reference

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#666666")
"""Okabe and Ito's, in an order that keeps neighbours apart for colour-blind readers."""
MARKERS = "osD^vP*X"
MOST_INSIDE = 9
"""A legend with more entries than this stands beside the curves, so as not to cover them."""
REACH = 1.4
"""Rates are shown up to this much beyond the shortest curve's end."""
PANELS = (("psnr", "PSNR, dB"), ("ms_ssim", "MS-SSIM, dB"))


def rate_distortion_figure(
    codecs: Sequence[str],
    means: Sequence[Mean],
    title: str,
    references: Sequence[Reference] = (),
) -> Figure:
    """PSNR and MS-SSIM over bpp: a thick line for each codec, its theoretical curve dashed,
    published curves thin."""
    from toolkit_evaluation.results.inline_figure import InlineFigure

    figure = InlineFigure(figsize=(11, 5), layout="constrained")
    axes = figure.subplots(1, len(PANELS))
    own = {codec: [mean for mean in means if mean.codec == codec] for codec in codecs}
    for axis, (metric, label) in zip(axes, PANELS, strict=True):
        _draw(axis, own, metric)
        limits = _limits(own, metric)
        _draw_references(axis, references, metric)
        if limits is not None:
            axis.set_xlim(0, limits[0])
            axis.set_ylim(*limits[1])
        style_axis(axis, label)
    handles = axes[0].get_legend_handles_labels()[0]
    if len(handles) > MOST_INSIDE:
        figure.set_size_inches(13, 5)
        figure.legend(handles=handles, loc="outside right upper", fontsize=8, frameon=False)
    elif handles:
        axes[0].legend(loc="lower right", fontsize=8, frameon=True, framealpha=0.9)
    figure.suptitle(title, fontsize=10)
    return figure


def style_axis(axis: Axes, label: str) -> None:
    """Grid, frame and labels as all our plots over the rate have them."""
    axis.set_xlabel("rate, bits per pixel (file size)")
    axis.set_ylabel(label)
    axis.grid(True, color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _limits(
    own: Mapping[str, Sequence[Mean]], metric: str
) -> tuple[float, tuple[float, float]] | None:
    """Largest rate and range of quality to show: measured curves as far as they can be
    compared, a little beyond the end of the shortest."""
    curves = [
        curve
        for means in own.values()
        for theoretical in (False, True)
        if (curve := curve_of(means, metric, theoretical))
    ]
    if not curves:
        return None
    end = REACH * min(max(rate for rate, _ in curve) for curve in curves)
    end = min(end, 1.05 * max(rate for curve in curves for rate, _ in curve))
    shown = [quality for curve in curves for rate, quality in curve if rate <= end]
    shown = shown or [quality for curve in curves for _, quality in curve]
    margin = 0.05 * (max(shown) - min(shown)) or 1.0
    return end, (min(shown) - margin, max(shown) + margin)


def _draw(axis: Axes, own: Mapping[str, Sequence[Mean]], metric: str) -> None:
    for number, (codec, means) in enumerate(own.items()):
        colour = COLOURS[number % len(COLOURS)]
        # a colour that comes again comes with another marker
        marker = MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]
        _line(axis, means, metric, False, color=colour, marker=marker, linewidth=2.2, label=codec)
        _line(
            axis,
            means,
            metric,
            True,
            color=colour,
            linestyle=(0, (4, 2)),
            linewidth=1.6,
            label=f"{codec}, theoretical",
        )


def _line(
    axis: Axes, rows: Sequence[HasFigures], metric: str, theoretical: bool, **style: Any
) -> None:
    curve = sorted(curve_of(rows, metric, theoretical))
    if curve:
        axis.plot(*zip(*curve, strict=True), markersize=4, zorder=3, **style)


def _draw_references(axis: Axes, references: Sequence[Reference], metric: str) -> None:
    for number, reference in enumerate(references):
        curve = sorted(curve_of(reference.points, metric))
        if curve:
            style = ("-", "--", ":", "-.")[number % 4]
            axis.plot(
                *zip(*curve, strict=True),
                linestyle=style,
                color="#777777",
                linewidth=0.9,
                zorder=2,
                label=f"{reference.name}, published",
            )


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG, whole or not at all, the same bytes for the same figure.

    Raises UsageError for another suffix.
    """
    import matplotlib

    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise UsageError(f"{path}: plots are .png or .svg")
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "toolkit", "svg.fonttype": "none"}):
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(path, buffer.getvalue())
