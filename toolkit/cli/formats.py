"""What the suffix of a coded file says of its format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.errors import UsageError

if TYPE_CHECKING:
    from toolkit.plugin.specs import CodecSpec

OWN = ".qf"
"""The suffix of the toolkit's container, which many codecs share."""
_ALIASES = {".heif": ".heic"}
"""Suffixes beside those that Pillow knows to be of one format."""


def codec_of_suffix(output: Path | None, codecs: Mapping[str, CodecSpec]) -> str | None:
    """The name of the codec whose format the suffix names; None where it names none, or that of
    many."""
    suffix = _suffix(output, codecs)
    if suffix == OWN:
        return None
    return next((spec.name for spec in codecs.values() if spec.suffix == suffix), None)


def check_suffix(output: Path | None, spec: CodecSpec, codecs: Mapping[str, CodecSpec]) -> None:
    """Whether an output may have its name.

    Raises:
        UsageError: its suffix is that of another format than the codec's.
    """
    if output is not None and _suffix(output, codecs) not in (None, spec.suffix):
        raise UsageError(f"{output}: '{spec.name}' makes {spec.suffix} files, not {output.suffix}")


def _suffix(output: Path | None, codecs: Mapping[str, CodecSpec]) -> str | None:
    """The suffix of a codec or of another picture format that the name ends in, or means (.jpeg:
    .jpg); None where it says nothing."""
    from PIL import Image

    found = "" if output is None else output.suffix.lower()
    found = _ALIASES.get(found, found)
    own = {spec.suffix for spec in codecs.values()}
    if found in own:
        return found
    forms = Image.registered_extensions()
    if found not in forms:
        return None
    same = (suffix for suffix in own if forms.get(suffix) == forms[found])
    return next(same, found)
