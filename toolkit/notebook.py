"""Progress in a notebook: a bar in the cell that waits. It takes no more than IPython."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape

_SECONDS = 0.2
"""Between two changes of the bar."""


def in_notebook() -> bool:
    """Whether this code runs in a Jupyter kernel, be it local or Colab's."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


@contextmanager
def notebook_progress(total: int, unit: str) -> Iterator[Callable[[str], None]]:
    """A progress bar in the notebook's cell; outside of notebooks, nothing.

    Arguments:
        total: steps that there will be.
        unit: what they are, in the plural: ``rows``.

    Yields:
        What is to be called after each step, with a title for it.
    """
    if not in_notebook():
        yield lambda title: None
        return
    from IPython.display import HTML, display

    begun = shown = time.monotonic()
    done = 0

    def bar(title: str) -> HTML:
        seconds = time.monotonic() - begun
        left = f", {seconds / done * (total - done):.0f} s to go" if 0 < done < total else ""
        return HTML(
            f'<progress max="{total}" value="{done}"></progress> {done} of {total} {unit}, '
            f"{seconds:.0f} s{left} <small>{escape(title)}</small>"
        )

    handle = display(bar(""), display_id=True)

    def step(title: str) -> None:
        nonlocal done, shown
        done += 1
        if time.monotonic() - shown > _SECONDS:
            shown = time.monotonic()
            handle.update(bar(title))

    try:
        yield step
    finally:
        handle.update(bar(""))
