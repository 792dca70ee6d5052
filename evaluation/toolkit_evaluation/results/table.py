"""The result of an evaluation: rows, their means, and what is made of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from toolkit.display import html_table
from toolkit.errors import MissingError
from toolkit_evaluation.results.columns import columns_of
from toolkit_evaluation.results.row import Mean, Row, means_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame
    from rich.console import Console, ConsoleOptions, RenderResult

    from toolkit_evaluation.results.bdrate import BDRate
    from toolkit_evaluation.results.reference import Reference


@dataclass(frozen=True, repr=False)
class Table:
    """Rows (one for each image, codec and point) and what they come to."""

    rows: list[Row]
    metrics: tuple[str, ...] = ()
    """Columns of metrics beyond ``FIGURES`` that means are taken of."""
    anchor: str | None = None
    """Codec that BD-rates are against where none is named."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Codecs that couldn't run, and why."""
    means: list[Mean] = field(init=False)
    """One for each codec and point: the means of the same figures over its images."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "means", means_of(self.rows, self.metrics))

    @property
    def failures(self) -> list[Row]:
        """Rows of images that failed."""
        return [row for row in self.rows if not row.ok]

    @property
    def codecs(self) -> list[str]:
        """Names of the codecs, in the order of the rows."""
        return list(dict.fromkeys(row.codec for row in self.rows))

    def means_of(self, codec: str) -> list[Mean]:
        """The means of one codec."""
        return [mean for mean in self.means if mean.codec == codec]

    def bd_rates(self, anchor: str | None = None) -> list[BDRate]:
        """BD-rate of every other codec against ``anchor`` (None: the table's), on the means and
        on each image; empty where there is no anchor.

        Raises UnknownName for an anchor that isn't among the codecs.
        """
        from toolkit_evaluation.results.bdrate import bd_rates

        anchor = anchor or self.anchor
        return [] if anchor is None else bd_rates(self.rows, self.means, anchor)

    def figure(self, references: Sequence[Reference] = ()) -> Figure:
        """Rate-distortion curves, published ones beside them."""
        from toolkit_evaluation.results.figure import rate_distortion_figure

        images = list(dict.fromkeys(row.image for row in self.rows if row.ok))
        title = images[0] if len(images) == 1 else f"mean of {len(images)} images"
        return rate_distortion_figure(self.codecs, self.means, title, references)

    def plot(self, path: Path | str | None = None, reference: Path | None = None) -> Figure:
        """Rate-distortion curves.

        Arguments:
            path: A PNG or SVG file to write, by its suffix; None: no file.
            reference: A folder of published curves, drawn beside them.

        Returns:
            The figure, which a notebook shows where it is a cell's last value.
        """
        from toolkit_evaluation.results.figure import save
        from toolkit_evaluation.results.reference import read_references

        figure = self.figure(read_references(reference) if reference else ())
        if path is not None:
            save(figure, Path(path))
        return figure

    def to_pandas(self, means: bool = False) -> DataFrame:
        """The rows, or their means, as a pandas data frame, one column a figure.

        Raises MissingError where pandas isn't installed.
        """
        try:
            from pandas import DataFrame
        except ImportError:
            raise MissingError("to_pandas needs the package pandas: pip install pandas") from None
        found = self.means if means else self.rows
        return DataFrame([one.to_dict() for one in found])

    def __repr__(self) -> str:
        """As ``toolkit eval`` prints it, in 80 columns."""
        from rich.console import Console

        text = io.StringIO()
        Console(width=80, file=text, color_system=None, force_jupyter=False).print(self)
        return text.getvalue().rstrip()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from toolkit_evaluation.results.terminal import renderables

        width = options.max_width
        yield from renderables(width, self.rows, self.means, self.metrics, self.bd_rates())

    def _repr_html_(self) -> str:
        """The means, and how many failed, as a notebook shows them."""
        columns = columns_of(self.metrics)
        rows = [[m.codec, *(cell(m) for cell in columns.values())] for m in self.means]
        told = [f"{len(self.failures)} failed"] if self.failures else []
        told += [f"{codec} left out: {why}" for codec, why in self.skipped.items()]
        return html_table(("codec", *columns), rows, "; ".join(told))

    def to_json(self) -> bytes:
        """``{"rows": [...], "means": [...], "skipped": {codec: why}}``."""
        whole = {
            "rows": [row.to_dict() for row in self.rows],
            "means": [mean.to_dict() for mean in self.means],
            "skipped": self.skipped,
        }
        return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"
