"""Telling observers (hook ``toolkit_row_done``) of rows; they can't change or stop anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from toolkit.plugin.observers import HookObservers
from toolkit_evaluation.results.row import Row

if TYPE_CHECKING:
    from toolkit.plugin.loader import Plugins


class Observers:
    """Calls ``first``, then every plugin's observer with a copy of the row as a dict, if it is new.

    An observer that raises is reported and left out for the rest of the run.
    """

    def __init__(
        self,
        plugins: Plugins,
        notice: Callable[[str], None],
        first: Callable[[Row, bool], None],
    ) -> None:
        self._first = first
        self._observers = HookObservers(plugins, "toolkit_row_done", notice)

    def __call__(self, row: Row, cached: bool) -> None:
        self._first(row, cached)
        if not cached:
            self._observers(row=row.to_dict())
