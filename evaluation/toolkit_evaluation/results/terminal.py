"""Results as tables in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from toolkit_evaluation.results.columns import TIMES, columns_of
from toolkit_evaluation.results.row import Mean, Row

if TYPE_CHECKING:
    from rich.console import RenderableType

    from toolkit_evaluation.results.bdrate import BDRate

FAILURES_SHOWN = 10


def renderables(
    width: int,
    rows: Sequence[Row],
    means: Sequence[Mean],
    metrics: Sequence[str],
    bd_rates: Sequence[BDRate],
) -> Iterator[RenderableType]:
    """Means, BD-rates and failures of a run, part by part, in lines of at most ``width``
    characters where numbers allow it."""
    for columns in _tables(width, means, metrics):
        yield _grid(means, columns)
        yield ""
    if any(bd.image is None for bd in bd_rates):
        yield _bd_grid(bd_rates)
    yield from _problems(rows)


def _tables(
    width: int, means: Sequence[Mean], metrics: Sequence[str]
) -> list[dict[str, Callable[[Mean], str]]]:
    """The columns of one table, or of several where a line can't hold them all: times stay
    together, each table names the points, no number is cut."""
    columns = columns_of(metrics)

    def size(titles: Sequence[str]) -> int:
        cells = [[title, *(columns[title](mean) for mean in means)] for title in titles]
        return sum(2 + max(map(len, column)) for column in cells)

    room = width - max([len("codec"), *(len(mean.codec) for mean in means)])
    found = [["point"]]
    units = [(title,) for title in columns if title not in ("point", *TIMES)]
    for unit in (*units, TIMES):
        if size([*found[-1], *unit]) > room and len(found[-1]) > 1:
            found.append(["point"])
        found[-1] += unit
    return [{title: columns[title] for title in titles} for titles in found]


def _grid(means: Sequence[Mean], columns: dict[str, Callable[[Mean], str]]) -> RenderableType:
    from rich.table import Table as Grid

    grid = Grid(box=None, pad_edge=False, header_style="bold")
    grid.add_column("codec", no_wrap=True)
    for title in columns:
        grid.add_column(title.strip(), justify="right", no_wrap=True)
    last = None
    for mean in means:
        if last not in (None, mean.codec):
            grid.add_row()
        last = mean.codec
        grid.add_row(mean.codec, *(cell(mean) for cell in columns.values()))
    return grid


def _bd_grid(bd_rates: Sequence[BDRate]) -> RenderableType:
    from rich.table import Table as Grid

    names = {"psnr": "PSNR", "ms_ssim": "MS-SSIM"}
    title = f"against {bd_rates[0].anchor}"
    grid = Grid(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    grid.add_column("codec", no_wrap=True)
    for title in ("metric", "BD-rate", "over, dB", "overlap", "by image, %"):
        grid.add_column(title, justify="right", no_wrap=True)
    for bd in (bd for bd in bd_rates if bd.image is None):
        grid.add_row(
            bd.codec + (", theory" if bd.theoretical else ""),
            names[bd.metric],
            percent(bd.akima),
            "" if bd.overlap is None else f"{bd.overlap[0]:.1f}-{bd.overlap[1]:.1f}",
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
    return f"{sum(own) / len(own):+.1f} ({min(own):+.0f} to {max(own):+.0f})"


def percent(value: float | None) -> str:
    """``+12.3 %``, or a dash."""
    return "-" if value is None else f"{value:+.1f} %"


def _problems(rows: Sequence[Row]) -> Iterator[RenderableType]:
    from rich.text import Text

    failures = [row for row in rows if not row.ok]
    if failures:
        yield Text(f"\n{len(failures)} failed", "bold red")
    for row in failures[:FAILURES_SHOWN]:
        at = f" at {row.point_label}" if row.point_label else ""
        yield Text(f"  {row.image}, {row.codec}{at}: {row.error}")
    if len(failures) > FAILURES_SHOWN:
        yield f"  and {len(failures) - FAILURES_SHOWN} more, in the rows"
    differing = [row for row in rows if row.matches_encoder is False]
    if differing:
        head = f"\n{len(differing)} decoded to other pixels than the encoder had"
        rest = f", the first: {differing[0].image}, {differing[0].codec}"
        yield Text.assemble((head, "bold red"), rest)
