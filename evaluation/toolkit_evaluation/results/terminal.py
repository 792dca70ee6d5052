"""Results as tables in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from toolkit_evaluation.results.bdrate import BDRate
    from toolkit_evaluation.results.row import Mean
    from toolkit_evaluation.results.table import Table

FAILURES_SHOWN = 10


def print_table(console: Console, table: Table, bd_rates: Sequence[BDRate]) -> None:
    """Means, BD-rates and failures of a run."""
    from rich.table import Table as Grid

    grid = Grid(box=None, pad_edge=False, header_style="bold")
    grid.add_column("codec", no_wrap=True)
    for title in _TITLES:
        grid.add_column(title, justify="right", no_wrap=True)
    last = None
    for mean in table.means:
        if last not in (None, mean.codec):
            grid.add_row()
        last = mean.codec
        grid.add_row(mean.codec, *_cells(mean))
    console.print(grid)
    if any(bd.image is None for bd in bd_rates):
        console.print()
        console.print(_bd_grid(bd_rates))
    _print_problems(console, table)


_TITLES = (
    "point",
    "images",
    "bpp",
    "ideal bpp",
    "PSNR",
    "MS-SSIM",
    "upper",
    "encode s",
    "in coder",
    "decode s",
    "in coder",
)


def _cells(mean: Mean) -> list[str]:
    return [
        mean.point_label,
        str(mean.images) + (f" (-{mean.failures})" if mean.failures else ""),
        _number(mean.value("bpp"), 4),
        _number(mean.value("theoretical_bpp"), 4),
        _number(mean.value("psnr"), 2),
        _number(mean.value("ms_ssim"), 4),
        "" if (share := mean.value("upper_share")) is None else f"{100 * share:.1f} %",
        _number(mean.value("encode_s"), 3),
        _number(mean.value("coder_encode_s"), 3),
        _number(mean.value("decode_s"), 3),
        _number(mean.value("coder_decode_s"), 3),
    ]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _bd_grid(bd_rates: Sequence[BDRate]) -> object:
    from rich.table import Table as Grid

    names = {"psnr": "PSNR", "ms_ssim": "MS-SSIM"}
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    grid.add_column(f"BD-rate against {bd_rates[0].anchor}", no_wrap=True)
    for title in ("metric", "Akima", "PCHIP", "over", "overlap", "by image"):
        grid.add_column(title, justify="right", no_wrap=True)
    for bd in (bd for bd in bd_rates if bd.image is None):
        grid.add_row(
            bd.codec + (", theoretical" if bd.theoretical else ""),
            names[bd.metric],
            percent(bd.akima),
            percent(bd.pchip),
            "" if bd.overlap is None else f"{bd.overlap[0]:.1f}-{bd.overlap[1]:.1f} dB",
            f"{100 * bd.overlap_share:.0f} %",
            _by_image(bd, bd_rates),
        )
    return grid


def _by_image(mean: BDRate, bd_rates: Sequence[BDRate]) -> str:
    """The mean of the images' own BD-rates, and their range."""
    own = [
        bd.akima
        for bd in bd_rates
        if bd.image is not None
        and (bd.codec, bd.metric, bd.theoretical) == (mean.codec, mean.metric, mean.theoretical)
        and bd.akima is not None
    ]
    if not own:
        return ""
    return f"{percent(sum(own) / len(own))} ({min(own):+.0f} to {max(own):+.0f})"


def percent(value: float | None) -> str:
    """``+12.3 %``, or a dash."""
    return "-" if value is None else f"{value:+.1f} %"


def _print_problems(console: Console, table: Table) -> None:
    failures = table.failures
    if failures:
        console.print(f"\n[bold red]{len(failures)} failed[/]")
    for row in failures[:FAILURES_SHOWN]:
        at = f" at {row.point_label}" if row.point_label else ""
        console.print(f"  {row.image}, {row.codec}{at}: {row.error}", markup=False)
    if len(failures) > FAILURES_SHOWN:
        console.print(f"  and {len(failures) - FAILURES_SHOWN} more, in the rows")
    differing = [row for row in table.rows if row.matches_encoder is False]
    if differing:
        console.print(
            f"\n[bold red]{len(differing)} decoded to other pixels than the encoder had[/], "
            f"the first: {differing[0].image}, {differing[0].codec}"
        )
