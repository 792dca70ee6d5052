"""The thesis's figures 4.1, 4.2 and 4.9, of our rows, its own points beside them.

Flamich, Compression without Quantization (2019), chapter 4. Its curves were read off the
printed figures (``thesis_kodak_digitised.csv``); times and shares are those of its notebook for
kodim01 (``thesis_kodim01_notebook.csv``, also table 4.1), taken on a GTX 1080.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import InputError
from toolkit_evaluation.metrics.fidelity import similarity_decibels
from toolkit_evaluation.results.curve import Curve, curve_of
from toolkit_evaluation.results.figure import COLOURS, MARKERS, PANELS, save, style_axis
from toolkit_evaluation.results.row import Mean, Row
from toolkit_evaluation.results.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DIGITISED = "thesis_kodak_digitised.csv"
NOTEBOOK = "thesis_kodim01_notebook.csv"
MOST_BPP = 1.5
THEORETICAL = "_theoretical"
"""End of the name of a method's theoretical curve; that of its files ends in ``_actual``."""
_THESIS_COLOUR = "#111111"
_THESIS_COLOURS = (_THESIS_COLOUR, "#8a6d3b", "#5b7f95")
"""Of the thesis's own models, those that have a theoretical curve."""
_OTHER_STYLES = ("-", ":", "-.", (0, (8, 2)))
"""Of the curves that it drew beside them, in gray."""
_COLUMNS = {"psnr": "psnr_dB", "ms_ssim": "ms_ssim_dB"}
Records = list[dict[str, str]]


@dataclass(frozen=True)
class Thesis:
    """The thesis's own numbers."""

    curves: Records
    notebook: Records


def read_thesis(folder: Path) -> Thesis:
    """Raises InputError where the two tables aren't in ``folder`` or lack columns."""
    curves = _read(folder / DIGITISED, ("image", "method", "beta", "bpp", *_COLUMNS.values()))
    needed = ("model", "bpp", "second_level_bpp", "encode_s", "decode_s")
    return Thesis(curves, _read(folder / NOTEBOOK, needed))


def _read(path: Path, needed: Sequence[str]) -> Records:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            records = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read ({error})") from None
    if not records or any(records[0].get(name) is None for name in needed):
        raise InputError(f"{path}: a table with columns {', '.join(needed)} is expected")
    return records


def thesis_figures(table: Table, thesis: Thesis, folder: Path) -> list[Path]:
    """Draw all that the rows allow, as PNG and SVG; return the PNGs' paths.

    4.1 for every image that the thesis has, and for their mean; 4.2 and 4.9 where some codec
    codes samples.
    """
    good = [row for row in table.rows if row.ok]
    known = {record["image"] for record in thesis.curves}
    images = [i for i in dict.fromkeys(row.image for row in good) if i in known]
    figures: dict[str, Figure] = {}
    for image in images:
        rows = [row for row in good if row.image == image]
        figures[f"4.1-{image}"] = _figure_4_1(table.codecs, rows, thesis, [image], image)
    if len(images) > 1 and len(images) == len({row.image for row in good}):
        title = f"mean of {len(images)} images"
        figures["4.1-mean"] = _figure_4_1(table.codecs, table.means, thesis, images, title)
    ladders = {row.codec for row in good if row.upper_share is not None}
    samplers = {row.codec for row in good if row.kl_bits}
    if ladders:
        figures["4.2"] = _figure_4_2([c for c in table.codecs if c in ladders], table, thesis)
    if samplers:
        figures["4.9"] = _figure_4_9([c for c in table.codecs if c in samplers], table, thesis)
    paths: list[Path] = []
    for name, figure in figures.items():
        for suffix in ("png", "svg"):
            save(figure, folder / f"figure-{name}.{suffix}")
        paths.append(folder / f"figure-{name}.png")
    return paths


def _new(title: str) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.6), layout="constrained")
    figure.suptitle(title, fontsize=11)
    return figure, figure.subplots(1, 2)


def _legend(figure: Figure, axes: Any) -> None:
    """One for both panels, below them."""
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)


# -- 4.1 ------------------------------------------------------------------------


def _figure_4_1(
    codecs: Sequence[str],
    rows: Sequence[Row | Mean],
    thesis: Thesis,
    images: Sequence[str],
    title: str,
) -> Figure:
    """Rate-distortion curves, theoretical ones dashed."""
    figure, axes = _new(f"Figure 4.1: {title}")
    for axis, (metric, label) in zip(axes, PANELS, strict=True):
        for method, style in _styles(thesis).items():
            curve = thesis_curve(thesis, method, metric, images)
            _plot(axis, curve, _thesis_label(method), linewidth=1, **style)
        for number, codec in enumerate(codecs):
            own = [row for row in rows if row.codec == codec]
            look = {"color": COLOURS[number % len(COLOURS)], "linewidth": 2.4, "zorder": 3}
            marker = MARKERS[number % len(MARKERS)]
            _plot(axis, curve_of(own, metric), codec, marker=marker, **look)
            ideal = curve_of(own, metric, theoretical=True)
            _plot(axis, ideal, f"{codec}, theoretical", linestyle="--", **look)
        style_axis(axis, label)
        axis.set_xlim(0, MOST_BPP)
        shown = [q for line in axis.lines for r, q in line.get_xydata() if r <= MOST_BPP]
        if shown:
            axis.set_ylim(min(shown) - 0.5, max(shown) + 0.5)
    _legend(figure, axes)
    return figure


def _styles(thesis: Thesis) -> dict[str, dict[str, Any]]:
    """How each of the thesis's methods is drawn: models by colour, theoretical curves dashed."""
    methods = list(dict.fromkeys(record["method"] for record in thesis.curves))
    models = [m.removesuffix("_actual") for m in methods if m.endswith("_actual")]
    models.sort(key=lambda name: (len(name), name))  # the plain one before its variants
    styles: dict[str, dict[str, Any]] = {}
    others = 0
    for method in methods:
        model = method.removesuffix("_actual").removesuffix(THEORETICAL)
        if model in models:
            colour = _THESIS_COLOURS[models.index(model) % len(_THESIS_COLOURS)]
            marker = MARKERS[models.index(model) % len(MARKERS)]
            line = "--" if method.endswith(THEORETICAL) else "-"
            styles[method] = {"color": colour, "linestyle": line, "marker": marker}
        else:
            styles[method] = {"color": "#999999"}
            styles[method]["linestyle"] = _OTHER_STYLES[others % len(_OTHER_STYLES)]
            others += 1
    return styles


def _thesis_label(method: str) -> str:
    name = method.removesuffix("_actual").removesuffix(THEORETICAL).replace("_", "-")
    return f"thesis: {name}{', theoretical' if method.endswith(THEORETICAL) else ''}"


def thesis_curve(thesis: Thesis, method: str, metric: str, images: Sequence[str]) -> Curve:
    """A method's curve on one image, or its mean over several: by beta, of those points that
    every image has."""
    chosen = [r for r in thesis.curves if r["method"] == method and r["image"] in images]
    column = _COLUMNS[metric]
    if len(images) == 1:
        return [(float(r["bpp"]), float(r[column])) for r in chosen if r[column]]
    curve: Curve = []
    for beta in dict.fromkeys(r["beta"] for r in chosen if r["beta"]):
        points = [r for r in chosen if r["beta"] == beta and r[column]]
        if len(points) == len(images):
            rate = sum(float(r["bpp"]) for r in points) / len(points)
            curve.append((rate, _mean_decibels([float(r[column]) for r in points], metric)))
    return curve


def _mean_decibels(values: Sequence[float], metric: str) -> float:
    """Mean PSNR in dB; for MS-SSIM the dB of the mean similarity, as ours is."""
    if metric == "psnr":
        return sum(values) / len(values)
    similarity = sum(1 - 10 ** (-value / 10) for value in values) / len(values)
    return similarity_decibels(similarity) or max(values)


def _plot(axis: Axes, curve: Curve, label: str, **style: Any) -> None:
    if curve:
        axis.plot(*zip(*sorted(curve), strict=True), label=label, markersize=4, **style)


# -- 4.2 and 4.9 ----------------------------------------------------------------


def _colour(table: Table, codec: str) -> str:
    """The codec's, the same in all figures."""
    return COLOURS[table.codecs.index(codec) % len(COLOURS)]


def _figure_4_2(codecs: Sequence[str], table: Table, thesis: Thesis) -> Figure:
    """What the levels above the last cost, in bits per pixel and in percent of the rate."""
    figure, axes = _new("Figure 4.2: contribution of the upper levels to the rate")
    upper = [(float(r["bpp"]), float(r["second_level_bpp"])) for r in thesis.notebook]
    theirs = (upper, [(rate, 100 * bits / rate) for rate, bits in upper])
    labels = ("upper levels, bits per pixel", "upper levels, % of the rate")
    for axis, points, label, percent in zip(axes, theirs, labels, (False, True), strict=True):
        ink = {"color": _THESIS_COLOUR, "linewidth": 1, "marker": "o"}
        _plot(axis, points, "thesis: its two-level model, kodim01", **ink)
        for codec in codecs:
            look = {"color": _colour(table, codec)}
            for image in dict.fromkeys(row.image for row in table.rows):
                rows = [r for r in table.rows if (r.codec, r.image) == (codec, image)]
                _plot(axis, _upper_levels(rows, percent), "", linewidth=0.5, alpha=0.4, **look)
            means = table.means_of(codec)
            _plot(axis, _upper_levels(means, percent), codec, linewidth=2.4, marker="o", **look)
        style_axis(axis, label)
        axis.set_ylim(bottom=0)
    _legend(figure, axes)
    return figure


def _upper_levels(rows: Sequence[Row | Mean], percent: bool) -> Curve:
    """(bpp, bits per pixel or percent of the rate) of the levels above the last."""
    known = ((row.value("bpp"), row.value("upper_share")) for row in rows)
    return [
        (rate, share * (100 if percent else rate))
        for rate, share in known
        if rate is not None and share is not None
    ]


def _figure_4_9(codecs: Sequence[str], table: Table, thesis: Thesis) -> Figure:
    """Seconds to encode and to decode an image, logarithmic, over the rate."""
    figure, axes = _new("Figure 4.9: coding times (the thesis's on a GTX 1080, kodim01)")
    for axis, way in zip(axes, ("encode", "decode"), strict=True):
        theirs = [(float(r["bpp"]), float(r[f"{way}_s"])) for r in thesis.notebook]
        ink = {"color": _THESIS_COLOUR, "linewidth": 1, "marker": "o"}
        _plot(axis, theirs, "thesis: its two-level model", **ink)
        for codec in codecs:
            means = table.means_of(codec)
            colour = _colour(table, codec)
            for name, style, what in (
                (f"{way}_s", "-", codec),
                (f"coder_{way}_s", ":", f"{codec}, coder alone"),
            ):
                known = ((mean.value("bpp"), mean.value(name)) for mean in means)
                curve = [(rate, s) for rate, s in known if rate is not None and s is not None]
                _plot(axis, curve, what, color=colour, linestyle=style, linewidth=2.2, marker="o")
        style_axis(axis, f"seconds to {way}")
        axis.set_yscale("log")
    _legend(figure, axes)
    return figure
