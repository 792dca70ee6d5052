"""YAML that strangers wrote: plain values, small, and every oddity one line.

Aliases may be used, but what they stand for counts each time: nine lines of them can mean a
thousand million values.
"""

from __future__ import annotations

import math
from typing import Any

import yaml

MOST_CHARACTERS = 2**20
MOST_VALUES = 10_000
"""Of a document, what aliases stand for counted each time."""
DEEPEST = 50


class _Loader(yaml.SafeLoader):
    """Without YAML 1.1's numbers to the base 60: 4:4:4 is text."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        tag: str = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        return _TEXT if tag in _NUMBERS and ":" in value else tag


_TEXT = "tag:yaml.org,2002:str"
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def compose(text: str) -> yaml.Node | None:
    """The nodes of a document; None for an empty one.

    Raises ValueError, its message one line, for what is no YAML, or too much of it.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"more than {MOST_CHARACTERS} characters")
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(_one_line(error)) from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if root is not None and _size(root, {}, ()) > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES} values, aliases counted each time")
    return root


def plain(node: yaml.Node) -> Any:
    """The value of a node: mappings with text as keys, lists, text, numbers, true, false, null.

    Raises ValueError, its message one line, for every other kind, such as dates and tagged values.
    """
    try:
        value = yaml.SafeLoader("").construct_document(node)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(_one_line(error)) from None
    _check(value)
    return value


def shortened(text: str) -> str:
    """At most 60 characters of it, for a message."""
    return text if len(text) <= 60 else text[:57] + "..."


_TOO_DEEP = f"nested more than {DEEPEST} deep"


def _size(node: yaml.Node, known: dict[int, int], above: tuple[int, ...]) -> int:
    """Values that a node stands for; each node is looked at once, however often it is meant."""
    if id(node) in above:
        raise ValueError("an alias that stands within itself")
    if id(node) not in known:
        if len(above) > DEEPEST:
            raise ValueError(_TOO_DEEP)
        size = 1
        if isinstance(node, yaml.CollectionNode):
            for child in node.value:
                for part in child if isinstance(child, tuple) else (child,):
                    size += _size(part, known, (*above, id(node)))
        known[id(node)] = size
    return known[id(node)]


def _check(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{shortened(str(key))!r} is no name of an option: text is")
            _check(item)
    elif isinstance(value, list):
        for item in value:
            _check(item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no number to use")
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError("too large a number")
    elif value is not None and not isinstance(value, (str, int, float, bool)):
        raise ValueError(f"a {type(value).__name__}, where only text and numbers may stand")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
