"""Columns of text that fit the terminal: the last one is wrapped, nothing is cut."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

LEAST = 24
"""Characters that the last column always has."""


def print_columns(rows: Sequence[Sequence[str]], indent: int = 0) -> None:
    """Print rows of as many cells each, the last of them in what is left of the line (of 80
    characters where there is no terminal)."""
    if not rows:
        return
    width = shutil.get_terminal_size((80, 24)).columns
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(size) for cell, size in zip(row, widths, strict=False)]
        head = " " * indent + "".join(f"{cell}  " for cell in cells)
        room = max(LEAST, width - len(head))
        lines = textwrap.wrap(row[-1], room, break_on_hyphens=False) or [""]
        print((head + lines[0]).rstrip())
        for line in lines[1:]:
            print(" " * len(head) + line)
