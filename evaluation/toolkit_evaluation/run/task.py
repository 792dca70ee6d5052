"""What a row is about, and the hashes that tell whether it is there already."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import ToolkitError, gave_out
from toolkit_evaluation.results.row import METRICS, Row, column

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels


@dataclass(frozen=True)
class Task:
    """What a row is about.

    ``point`` is None for an image that couldn't even be read, and where it is to be found:
    then ``target`` says what it should come to.
    """

    key: str
    image: str
    pixels_sha256: str
    codec: str
    preset_identity: str
    codec_identity: str
    point: float | None
    target: str | None = None

    def row(self, **values: Any) -> Row:
        """A row of this task, with the other fields of ``Row``."""
        return Row(**asdict(self), **values)

    def error_row(self, error: BaseException | str, seconds: float = 0.0) -> Row:
        """A row that says why there is no result; a ``transient`` one where a resource gave out."""
        passing = isinstance(error, BaseException) and gave_out(error)
        unknown = {column(name): None for name in METRICS}
        text = format_error(error)
        return self.row(
            status="error", error=text, transient=passing, metrics=unknown, seconds=seconds
        )


def task_of(row: Row) -> Task:
    """The task that a row is the result of."""
    return Task(**{field.name: getattr(row, field.name) for field in fields(Task)})


def pixels_sha256(pixels: Pixels) -> str:
    """SHA-256 of an image's bytes, its shape not included; as the Kodak table has it."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def key_of(
    pixels: str, shape: tuple[int, ...], preset: str, point: float | str | None, codec: str
) -> str:
    """What a result depends on, hashed: image, options, point, weights and libraries."""
    text = json.dumps([pixels, list(shape), preset, point, codec])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def format_error(error: BaseException | str) -> str:
    """An error in one line: ours as they are, others with their kind."""
    ours = isinstance(error, (ToolkitError, str))
    text = str(error) if ours else f"{type(error).__name__}: {error}"
    return " ".join(text.split()) or repr(error)
