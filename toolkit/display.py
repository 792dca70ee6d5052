"""How objects of the library look in a prompt and in a notebook."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.codec.pixels import Pixels
    from toolkit.options import Options


def html_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", text: int = 1
) -> str:
    """A table of HTML, as notebooks show it.

    Arguments:
        head: titles of the columns.
        rows: their cells; everything is escaped.
        caption: stands above.
        text: how many columns, from the left, are text; the rest are numbers.
    """

    def line(tag: str, cells: Sequence[str]) -> str:
        sides = ["left"] * text + ["right"] * (len(cells) - text)
        return "".join(
            f'<{tag} style="text-align: {side}">{escape(cell)}</{tag}>'
            for side, cell in zip(sides, cells, strict=True)
        )

    above = f'<caption style="text-align: left">{escape(caption)}</caption>' if caption else ""
    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f"<table>{above}<thead><tr>{line('th', head)}</tr></thead><tbody>{body}</tbody></table>"


def changed_options(options: Options) -> str:
    """Those that aren't at their defaults, as ``name=value, ...``."""
    from toolkit.options import to_mapping

    try:
        usual: Mapping[str, Any] = to_mapping(type(options)())
    except TypeError:  # some option has no default
        usual = {}
    values = to_mapping(options).items()
    return ", ".join(f"{k}={v!r}" for k, v in values if k not in usual or usual[k] != v)


def options_table(options: Options, caption: str) -> str:
    """All options as a table of HTML: name, value, what it is."""
    from toolkit.option_docs import option_docs
    from toolkit.options import to_mapping

    values = to_mapping(options)
    rows = [(doc.name, repr(values[doc.name]), doc.about) for doc in option_docs(type(options))]
    return html_table(("option", "value", ""), rows, caption, text=3)


def png(pixels: Pixels) -> bytes:
    """uint8 pixels (H, W, C) as a PNG file."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(content, "PNG")
    return content.getvalue()
