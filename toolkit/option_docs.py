"""What the options of a plugin are: types, ranges, choices, defaults and a line about each."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
from msgspec import inspect as types

from toolkit.options import Options


@dataclass(frozen=True)
class OptionDoc:
    """One option."""

    name: str
    type: str
    """In words: ``whole number``, ``number``, ``true or false``, ``text``, ``one of ...``."""
    default: Any
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] | None = None
    about: str = ""
    """What its class says of it; empty where that says nothing."""

    def to_dict(self) -> dict[str, Any]:
        """Its fields, for JSON."""
        return asdict(self)

    @property
    def values(self) -> str:
        """Type and range in words, as in ``whole number, 1 to 16``."""
        if self.low is not None and self.high is not None:
            return f"{self.type}, {self.low} to {self.high}"
        if self.low is not None:
            return f"{self.type}, at least {self.low}"
        if self.high is not None:
            return f"{self.type}, at most {self.high}"
        return self.type


def option_docs(cls: type[Options]) -> list[OptionDoc]:
    """The options of a class, in its order."""
    about = _attribute_docs(cls)
    found = types.type_info(cls)
    assert isinstance(found, types.StructType)
    return [_option(field, about.get(field.name, "")) for field in found.fields]


def _option(field: types.Field, about: str) -> OptionDoc:
    default = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    default = None if default is msgspec.NODEFAULT else msgspec.to_builtins(default)
    inner = field.type
    if isinstance(inner, types.UnionType):  # of None and one other type
        (inner,) = [t for t in inner.types if not isinstance(t, types.NoneType)][:1]
    low, high = (_bound(inner, *names) for names in (("ge", "gt"), ("le", "lt")))
    choices = tuple(inner.values) if isinstance(inner, types.LiteralType) else None
    return OptionDoc(field.name, _words(field.type), default, low, high, choices, about)


def _bound(kind: types.Type, inclusive: str, exclusive: str) -> float | None:
    for name in (inclusive, exclusive):
        value: float | None = getattr(kind, name, None)
        if value is not None:
            return value
    return None


_WORDS: dict[type[types.Type], str] = {
    types.IntType: "whole number",
    types.FloatType: "number",
    types.BoolType: "true or false",
    types.StrType: "text",
    types.NoneType: "null",
    types.DictType: "mapping",
    types.StructType: "mapping",
    types.AnyType: "anything",
}


def _words(kind: types.Type) -> str:
    if isinstance(kind, types.UnionType):
        return " or ".join(_words(part) for part in kind.types)
    if isinstance(kind, types.LiteralType):
        return f"one of {', '.join(map(str, kind.values))}"
    if isinstance(kind, (types.ListType, types.VarTupleType)):
        return f"list of {_words(kind.item_type)}s"
    if isinstance(kind, types.TupleType):
        return f"list of {len(kind.item_types)} {_words(kind.item_types[0])}s"
    return _WORDS.get(type(kind), type(kind).__name__.removesuffix("Type").lower())


def _attribute_docs(cls: type[Options]) -> dict[str, str]:
    """The strings behind a class's attributes, those of its bases included."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not issubclass(base, Options) or base is Options:
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        except (OSError, TypeError, SyntaxError):  # made at run time, or shipped without source
            continue
        assert isinstance(body, ast.ClassDef)
        for item, behind in zip(body.body, body.body[1:], strict=False):
            if not (isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)):
                continue
            match behind:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    docs[item.target.id] = " ".join(text.split())
    return docs
