"""Options: plain mappings, checked against a plugin's option class.

An option class is a ``msgspec.Struct`` made with ``Options`` as its base::

    class GreedyOptions(Options, frozen=True):
        bits: Annotated[int, Meta(ge=1, le=16)] = 10
        shards: Literal["geometric", "equal"] = "geometric"

Types, ranges and choices are checked, unknown keys are refused with the nearest name, and
``identity`` gives the canonical form that hashes and result rows are made of.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from toolkit.errors import UnknownName, UsageError


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base class of all options: frozen, keyword-only, strict."""


T = TypeVar("T", bound=Options)


def parse_options(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """The options ``values`` as an instance of ``cls``.

    Raises UsageError, its message starting with ``where``, for an unknown key, a wrong type
    or a value out of range.
    """
    known = cls.__struct_fields__
    for key in values:
        if key not in known:
            raise UnknownName("option", str(key), known, where)
    try:
        return msgspec.convert(dict(values), cls)
    except msgspec.ValidationError as error:
        text = str(error).replace("`$.", "`")
        raise UsageError(f"{where}: {text}") from None


def to_mapping(options: Options) -> dict[str, Any]:
    """All fields of ``options``, defaults included, as plain Python values."""
    result = msgspec.to_builtins(options)
    assert isinstance(result, dict)
    return result


def identity(value: Any) -> str:
    """Hash, 12 hex digits, of plain values: the same whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
