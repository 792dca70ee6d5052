"""What a bench of samplers found: table, JSON, plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from toolkit_evaluation.results.figure import COLOURS, MARKERS
from toolkit_evaluation.samplers.bench import MEANS, TIMES, Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

COLUMNS = (
    ("point", "point", "{:g}"),
    ("images", "images", "{}"),
    ("KL, bits", "kl_bits", "{:.0f}"),
    ("bits", "bits", "{:.0f}"),
    ("side", "side_bits", "{:.0f}"),
    ("rate %", "rate_percent", "{:+.1f}"),
    ("excess %", "excess_percent", "{:+.1f}"),
    ("J %", "j_percent", "{:+.1f}"),
    ("PSNR lost, dB", "psnr_lost", "{:+.2f}"),
    ("encode s", "encode_s", "{:.3f}"),
    ("decode s", "decode_s", "{:.3f}"),
    ("peak MiB", "peak_mb", "{:.0f}"),
)
"""Title, key and format."""


def sampler_table(means: Sequence[Record]) -> Table:
    """The means as a table for a terminal, a dash for what isn't known."""
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("preset", "sampler"):
        grid.add_column(title, no_wrap=True)
    for title, _, _ in COLUMNS:
        grid.add_column(title, justify="right", no_wrap=True)
    last = None
    for mean in means:
        if last not in (None, mean["preset"]):
            grid.add_row()
        last = mean["preset"]
        cells = ["-" if mean[key] is None else form.format(mean[key]) for _, key, form in COLUMNS]
        grid.add_row(mean["preset"], mean["sampler"], *cells)
    return grid


def level_table(means: Sequence[Record]) -> Table:
    """The means of each level by itself, top first, and the share of the bits that it takes."""
    from rich.table import Table

    columns = [column for column in COLUMNS if column[1] in (*MEANS, *TIMES)]
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("preset", no_wrap=True)
    for title in ("point", "level", *(title for title, _, _ in columns), "of all bits"):
        grid.add_column(title, justify="right", no_wrap=True)
    for number, mean in enumerate(means):
        if number:
            grid.add_row()
        for level in mean["levels"]:
            cells = [
                "-" if level[key] is None else form.format(level[key]) for _, key, form in columns
            ]
            share = f"{level['bits'] / mean['bits']:.1%}" if mean["bits"] else "-"
            grid.add_row(mean["preset"], f"{mean['point']:g}", level["level"], *cells, share)
    return grid


def to_json(means: Sequence[Record], rows: Sequence[Record]) -> bytes:
    """``{"means": [...], "rows": [...]}``: one mean a sampler and rate, one row an image."""
    plain = msgspec.json.encode({"means": means, "rows": rows})
    return msgspec.json.format(plain, indent=2) + b"\n"


def merit_figure(means: Sequence[Record]) -> Figure:
    """J over the time of encoding: a marker a rate, larger for more bits, a line a preset."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axis = figure.subplots()
    largest = max((mean["kl_bits"] for mean in means), default=1.0) or 1.0
    for number, preset in enumerate(dict.fromkeys(mean["preset"] for mean in means)):
        rows = [m for m in means if m["preset"] == preset and m["j_percent"] is not None]
        times, merits = [m["encode_s"] for m in rows], [m["j_percent"] for m in rows]
        colour = COLOURS[number % len(COLOURS)]
        sizes = [20 + 80 * m["kl_bits"] / largest for m in rows]
        axis.plot(times, merits, color=colour, linewidth=1)
        axis.scatter(
            times, merits, s=sizes, color=colour, marker=MARKERS[number % len(MARKERS)],
            label=f"{preset} ({rows[0]['sampler']})" if rows else preset,
        )  # fmt: skip
    axis.set_xscale("log")
    axis.set_xlabel("encoding, s (coder only); larger markers: more bits")
    axis.set_ylabel("J: rate and distortion over the ideal, % of KL")
    axis.grid(True, color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    if means:
        axis.legend(fontsize=8)
    return figure
