"""Coded files and reconstructions that are kept beside the results, and where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.codec.search import PointTarget
from toolkit.format.files import write_atomically, write_bytes_atomically

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels
    from toolkit_evaluation.run.task import Task


def kept_path(folder: Path, task: Task, suffix: str) -> Path:
    """The place of a coded file; ``suffix`` is that of the codec's files."""
    word = f"{task.point:g}" if task.target is None else PointTarget.parse(task.target).word
    return folder / task.codec / word / f"{task.image}{suffix}"


def reconstruction_path(coded: Path, image: str) -> Path:
    """The reconstruction beside a kept file: a PNG named as the image, or where the codec's own
    files are PNGs, ``IMAGE.decoded.png``."""
    path = coded.with_name(f"{image}.png")
    return path if path != coded else coded.with_name(f"{image}.decoded.png")


def keep(path: Path, image: str, data: bytes, decoded: Pixels) -> None:
    """Write a coded file to ``path``, and its reconstruction beside it."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(path, data)
    picture = Image.fromarray(decoded[:, :, 0] if decoded.shape[2] == 1 else decoded)
    write_atomically(
        reconstruction_path(path, image), lambda file: picture.save(file, "PNG", compress_level=1)
    )
