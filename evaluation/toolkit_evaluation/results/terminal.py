"""Results as tables in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from toolkit_evaluation.results.row import Mean

if TYPE_CHECKING:
    from rich.console import Console

    from toolkit_evaluation.results.bdrate import BDRate
    from toolkit_evaluation.results.table import Table

FAILURES_SHOWN = 10


def print_table(console: Console, table: Table, bd_rates: Sequence[BDRate]) -> None:
    """Means, BD-rates and failures of a run."""
    for columns in _tables(console.width, table):
        console.print(_grid(table, columns))
        console.print()
    if any(bd.image is None for bd in bd_rates):
        console.print(_bd_grid(bd_rates))
    _print_problems(console, table)


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


def columns_of(table: Table) -> dict[str, Callable[[Mean], str]]:
    """``CELLS``, and behind MS-SSIM the other metrics that were asked for."""
    columns: dict[str, Callable[[Mean], str]] = {}
    for title, cell in CELLS.items():
        columns[title] = cell
        if title == "MS-SSIM":
            for name in table.metrics:
                columns[name.replace("_", "-")] = partial(_metric, name)
    return columns


def _metric(name: str, mean: Mean) -> str:
    return _number(mean.value(name), 4)


def _tables(width: int, table: Table) -> list[dict[str, Callable[[Mean], str]]]:
    """The columns of one table, or of several where a line can't hold them all: times stay
    together, each table names the points, no number is cut."""
    columns = columns_of(table)

    def size(titles: Sequence[str]) -> int:
        cells = [[title, *(columns[title](mean) for mean in table.means)] for title in titles]
        return sum(2 + max(map(len, column)) for column in cells)

    room = width - max([len("codec"), *(len(mean.codec) for mean in table.means)])
    found = [["point"]]
    units = [(title,) for title in columns if title not in ("point", *TIMES)]
    for unit in (*units, TIMES):
        if size([*found[-1], *unit]) > room and len(found[-1]) > 1:
            found.append(["point"])
        found[-1] += unit
    return [{title: columns[title] for title in titles} for titles in found]


def _grid(table: Table, columns: dict[str, Callable[[Mean], str]]) -> object:
    from rich.table import Table as Grid

    grid = Grid(box=None, pad_edge=False, header_style="bold")
    grid.add_column("codec", no_wrap=True)
    for title in columns:
        grid.add_column(title.strip(), justify="right", no_wrap=True)
    last = None
    for mean in table.means:
        if last not in (None, mean.codec):
            grid.add_row()
        last = mean.codec
        grid.add_row(mean.codec, *(cell(mean) for cell in columns.values()))
    return grid


def _percentage(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _bd_grid(bd_rates: Sequence[BDRate]) -> object:
    from rich.table import Table as Grid

    names = {"psnr": "PSNR", "ms_ssim": "MS-SSIM"}
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    grid.add_column(f"BD-rate against {bd_rates[0].anchor}", no_wrap=True)
    for title in ("metric", "Akima", "PCHIP", "over", "overlap", "by image"):
        grid.add_column(title, justify="right", no_wrap=title != "by image")
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
