"""The thesis's cross-sections of the latent space: figures 3.1, 3.3, 3.4 and 4.3 to 4.8.

Figure 3.1 is of a model of one level; 3.3 of the run's first model of more, 3.4 of the others;
4.3 to 4.8 have all levels of each of these. Each shows single channels of an image's latents,
(H, W): prior and posterior means and standard deviations, a posterior sample, and the sample
standardised by the prior. The thesis picks channels at random; here they are those with most bits.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.codec.base import as_pixels, as_rgb
from toolkit.errors import InputError, ToolkitError, UnknownName
from toolkit.format.files import write_bytes_atomically
from toolkit.options import identity
from toolkit.plugin.presets import Preset, open_codec
from toolkit_evaluation.results.figure import save
from toolkit_evaluation.run.task import pixels_sha256
from toolkit_evaluation.thesis.latents import (
    channel_bits,
    highest_rate_channels,
    standardised,
    statistics,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from toolkit.codec.base import Codec, LatentLevel, Pixels
    from toolkit.plugin.loader import Plugins
    from toolkit_evaluation.run.recorded import Recorded

    Notice = Callable[[str], None]

USUAL = "kodim21"
"""The image of the thesis's cross-sections."""
MOST_POINTS = 6
"""Figures 4.3 to 4.8."""
CHANNELS = 2
"""Of each level, in those figures."""
PANELS = (
    "prior means",
    "posterior means",
    "prior standard dev.",
    "posterior standard dev.",
    "posterior sample",
    "sample, standardised",
)


@dataclass(frozen=True)
class Sections:
    """A codec's latents of an image at some points, fewest bits first."""

    codec: str
    image: str
    pixels: Pixels
    points: dict[float, list[LatentLevel]]

    @property
    def ladder(self) -> bool:
        """Whether there is more than one level."""
        return any(len(levels) > 1 for levels in self.points.values())


def cross_sections(
    recorded: Recorded, plugins: Plugins, image: str | None, folder: Path, notice: Notice
) -> list[Path]:
    """Draw those of every codec of the run that has latents to show, as PNG files, beside a
    table of all channels (``latents.csv``); return the PNGs' paths.

    ``image`` is kodim21 where None, or else the run's first. What can't be drawn is left out
    with a notice. Raises UnknownName for an image that the run lacks.
    """
    name = _choose(recorded, image)
    pixels = _pixels(recorded, name)
    paths: list[Path] = []
    records: list[dict[str, Any]] = []
    seen: list[Sections] = []
    for codec in recorded.table.codecs:
        found = _sections(recorded, plugins, codec, name, pixels, notice)
        if found is None:
            continue
        twin = next((other.codec for other in seen if _same(other, found)), None)
        if twin is not None:
            notice(f"{codec}: its latents are those of {twin}; no cross-sections of its own")
            continue
        first = not any(other.ladder for other in seen)
        seen.append(found)
        records += _records(found)
        for title, figure in _figures(found, first).items():
            paths.append(folder / f"figure-{title}-{codec}.png")
            save(figure, paths[-1])
    if records:
        _write_csv(records, folder / "latents.csv")
    return paths


# -- what there is --------------------------------------------------------------


def _choose(recorded: Recorded, image: str | None) -> str:
    images = list(dict.fromkeys(row.image for row in recorded.table.rows))
    if image is None:
        return USUAL if USUAL in images else images[0]
    if image not in images:
        raise UnknownName("image", image, images, "cross-sections")
    return image


def _pixels(recorded: Recorded, name: str) -> Pixels:
    """Raises InputError for an image that isn't where it was, or is another one now."""
    places = {image.name: image.path for image in recorded.images}
    if name not in places:
        raise InputError(f"{name}: the last evaluation's record doesn't say where it lies")
    pixels = as_pixels(places[name])
    known = {r.pixels_sha256 for r in recorded.table.rows if r.image == name}
    if pixels_sha256(pixels) not in known:
        raise InputError(f"{places[name]}: not the image that was measured")
    return pixels


def _sections(
    recorded: Recorded, plugins: Plugins, codec: str, image: str, pixels: Pixels, notice: Notice
) -> Sections | None:
    rows = [r for r in recorded.table.rows if (r.codec, r.image) == (codec, image)]
    good = sorted((r for r in rows if r.ok), key=lambda row: row.bpp or 0.0)
    presets = {preset.name: preset for preset in recorded.presets}
    if not good or codec not in presets:
        notice(f"{codec}: no results of {image} in the last evaluation; no cross-sections")
        return None
    preset = Preset(codec, presets[codec].codec, presets[codec].options, ())
    try:
        opened = open_codec(plugins, preset)
        found = _levels(
            opened, pixels, _spread([row.point for row in good if row.point is not None])
        )
        changed = identity(opened.identity()) != good[0].codec_identity
    except ToolkitError as error:
        notice(f"{codec}: no cross-sections ({error})")
        return None
    if found is None:
        notice(f"{codec}: has no Gaussian latents; no cross-sections")
        return None
    if changed:
        notice(f"{codec}: weights or libraries aren't those of the run; the sections are of now")
    return Sections(codec, image, pixels, found)


def _spread(points: Sequence[float]) -> list[float]:
    """At most ``MOST_POINTS`` of them, both ends among them."""
    unique = list(dict.fromkeys(points))
    count = min(len(unique), MOST_POINTS)
    return [unique[round(at)] for at in np.linspace(0, len(unique) - 1, count)]


def _levels(
    codec: Codec, pixels: Pixels, points: Sequence[float]
) -> dict[float, list[LatentLevel]] | None:
    found: dict[float, list[LatentLevel]] = {}
    for point in points:
        levels = codec.latent_levels(pixels, point)
        if not levels:
            return None
        found[point] = levels
    return found


def _same(first: Sections, second: Sections) -> bool:
    """Whether both codecs have one network: equal posteriors at the points that both have."""
    shared = [point for point in first.points if point in second.points]
    pairs = [(first.points[point], second.points[point]) for point in shared]
    return bool(pairs) and all(
        len(a) == len(b)
        and all(np.array_equal(x.sample, y.sample) for x, y in zip(a, b, strict=True))
        for a, b in pairs
    )


def _records(found: Sections) -> list[dict[str, Any]]:
    return [
        {"codec": found.codec, "image": found.image, "point": point, **record}
        for point, levels in found.points.items()
        for level in levels
        for record in statistics(level)
    ]


def _write_csv(records: Sequence[dict[str, Any]], path: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(path, text.getvalue().encode())


# -- pictures -------------------------------------------------------------------


def _figures(found: Sections, first: bool) -> dict[str, Figure]:
    """By number; ``first``: no other model of several levels came before."""
    points = list(found.points)
    middle = points[(len(points) - 1) // 2]
    if not found.ladder:
        return {"3.1": _figure_3_1(found, middle)}
    number = "3.3" if first else "3.4"
    figures = {number: _figure_3_3(found, middle, number)}
    for at, point in enumerate(points, start=3):
        figures[f"4.{at}"] = _figure_4(found, point, f"4.{at}")
    return figures


def _new(rows: int, columns: int, width: float, shape: tuple[int, ...], title: str) -> Any:
    """Figure and grid of panels, each ``width`` inches wide and of the image's proportions."""
    from matplotlib.figure import Figure

    height = 0.8 * width * min(2.0, max(0.3, shape[-2] / shape[-1])) + 0.3
    figure = Figure(figsize=(columns * width, rows * height + 0.3), layout="constrained")
    figure.suptitle(title, fontsize=10)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _figure_3_1(found: Sections, point: float) -> Figure:
    """The image, and the level next to it: sample, means, standard deviations."""
    level = found.points[point][-1]
    channel = highest_rate_channels(level, 1)[0]
    title = f"Figure 3.1: {_what(found, point)}, {_which(level, channel)}"
    figure, axes = _new(2, 2, 3.0, level.sample.shape, title)
    panels = dict(zip(PANELS, _panels(level, channel), strict=True))
    cells = axes.ravel()
    cells[0].imshow(as_rgb(found.pixels))
    cells[0].set_title(found.image, fontsize=8)
    cells[0].set_axis_off()
    for axis, name in zip(cells[1:], (PANELS[4], PANELS[1], PANELS[3]), strict=True):
        _show(axis, panels[name], name)
    return figure


def _figure_3_3(found: Sections, point: float, number: str) -> Figure:
    """All six views of the highest-rate channel of the level next to the image."""
    level = found.points[point][-1]
    channel = highest_rate_channels(level, 1)[0]
    title = f"Figure {number}: {_what(found, point)}, {_which(level, channel)}"
    figure, axes = _new(3, 2, 3.0, level.sample.shape, title)
    for axis, name, panel in zip(axes.ravel(), PANELS, _panels(level, channel), strict=True):
        _show(axis, panel, name)
    return figure


def _figure_4(found: Sections, point: float, number: str) -> Figure:
    """A row for each of the highest-rate channels of every level, top level first."""
    rows = [
        (level, channel)
        for level in found.points[point]
        for channel in highest_rate_channels(level, CHANNELS)
    ]
    title = f"Figure {number}: {_what(found, point)}"
    figure, axes = _new(len(rows), len(PANELS), 2.2, rows[0][0].sample.shape, title)
    for line, (level, channel) in zip(axes, rows, strict=True):
        for axis, name, panel in zip(line, PANELS, _panels(level, channel), strict=True):
            _show(axis, panel, name)
        line[0].set_ylabel(_which(level, channel).replace(", ", "\n"), fontsize=8)
    return figure


def _what(found: Sections, point: float) -> str:
    return f"{found.codec} at {point:g} on {found.image}"


def _which(level: LatentLevel, channel: int) -> str:
    bits = channel_bits(level)
    share = 100 * bits[channel] / max(float(bits.sum()), 1e-9)
    return f"{level.name}, channel {channel}, {share:.1f} % of its bits"


Panel = tuple[Any, float, float, str]


def _panels(level: LatentLevel, channel: int) -> list[Panel]:
    """(values, lowest, highest, colours) in the order of ``PANELS``; means and sample share
    their range, each kind of standard deviations has its own."""
    prior, posterior = level.prior_mean[channel], level.posterior_mean[channel]
    sample = level.sample[channel]
    low, high = (float(edge((prior, posterior, sample))) for edge in (np.min, np.max))
    spreads = [level.prior_scale[channel], level.posterior_scale[channel]]
    return [
        (prior, low, high, "viridis"),
        (posterior, low, high, "viridis"),
        *((spread, 0.0, float(spread.max()), "magma") for spread in spreads),
        (sample, low, high, "viridis"),
        (standardised(level)[channel], -3.0, 3.0, "coolwarm"),
    ]


def _show(axis: Axes, panel: Panel, name: str) -> None:
    values, low, high, colours = panel
    shown = axis.imshow(values, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    axis.set_title(name, fontsize=8)
    axis.set_xticks([])
    axis.set_yticks([])
    bar = axis.figure.colorbar(shown, ax=axis, fraction=0.05, pad=0.02, aspect=16)
    bar.ax.tick_params(labelsize=6)
