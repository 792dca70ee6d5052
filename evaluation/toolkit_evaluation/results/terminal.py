"""Results as tables in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from toolkit_evaluation.results.table import aim_of
from toolkit_evaluation.run.measure import Row

if TYPE_CHECKING:
    from rich.console import Console

    from toolkit_evaluation.results.bdrate import BDRate
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
        if last not in (None, mean["codec"]):
            grid.add_row()
        last = mean["codec"]
        grid.add_row(mean["codec"], *_cells(mean))
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
    "level 2",
    "encode s",
    "in coder",
    "decode s",
    "in coder",
)


def _cells(mean: Row) -> list[str]:
    return [
        aim_of(mean),
        str(mean["images"]) + (f" (-{mean['failures']})" if mean["failures"] else ""),
        _number(mean["bpp"], 4),
        _number(mean["theoretical_bpp"], 4),
        _number(mean["psnr"], 2),
        _number(mean["ms_ssim"], 4),
        "" if mean["level2_share"] is None else f"{100 * mean['level2_share']:.1f} %",
        _number(mean["encode_s"], 3),
        _number(mean["coder_encode_s"], 3),
        _number(mean["decode_s"], 3),
        _number(mean["coder_decode_s"], 3),
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
        aim = f" at {aim_of(row)}" if aim_of(row) else ""
        console.print(f"  {row['image']}, {row['codec']}{aim}: {row['error']}", markup=False)
    if len(failures) > FAILURES_SHOWN:
        console.print(f"  and {len(failures) - FAILURES_SHOWN} more, in the rows")
    differing = [row for row in table.rows if row.get("matches_encoder") is False]
    if differing:
        console.print(
            f"\n[bold red]{len(differing)} decoded to other pixels than the encoder had[/], "
            f"the first: {differing[0]['image']}, {differing[0]['codec']}"
        )
