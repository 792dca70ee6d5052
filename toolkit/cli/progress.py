"""One progress bar for all commands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from toolkit.cli import say

SPEAK_EVERY = 30.0
"""Seconds between lines of progress, where there is no terminal."""


@contextmanager
def progress(total: int, unit: str) -> Iterator[Callable[[str], None]]:
    """A progress bar on standard error; where that is no terminal, a line now and then.

    Arguments:
        total: Steps that there will be.
        unit: What they are, in the plural: ``rows``.

    Yields:
        What is to be called after each step, with a title for it.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<32.32}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        bar = bars.add_task("starting", total=total)
        spoken = time.monotonic()

        def step(title: str) -> None:
            nonlocal spoken
            bars.update(bar, advance=1, description=title)
            if bars.disable and time.monotonic() - spoken > SPEAK_EVERY:
                spoken = time.monotonic()
                say(f"{bars.tasks[bar].completed:.0f} of {total} {unit}")

        yield step
