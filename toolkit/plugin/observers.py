"""Telling plugins what happens; they can't change or stop it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.plugin.loader import Plugins


class HookObservers:
    """All plugins' implementations of an observing hook, called with copies of its arguments.

    One that raises is reported and left out from then on.

    Arguments:
        plugins: where they come from.
        hook: name of the hook.
        notice: called with a line about one that raised.
    """

    def __init__(self, plugins: Plugins, hook: str, notice: Callable[[str], None]) -> None:
        self._hook, self._notice = hook, notice
        self._observers = list(getattr(plugins.manager.hook, hook).get_hookimpls())

    def __call__(self, **arguments: Any) -> None:
        for observer in list(self._observers):
            copies = copy.deepcopy(arguments)
            try:
                observer.function(**{name: copies[name] for name in observer.argnames})
            except Exception as error:
                self._observers.remove(observer)
                self._notice(
                    f"plugin '{observer.plugin_name}': {self._hook} raised "
                    f"{type(error).__name__}: {error}; left out from here on"
                )
