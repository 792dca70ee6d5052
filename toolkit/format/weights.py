"""Weights files: safetensors with what they are of in the metadata, never pickles.

The metadata holds ``model`` (an entropy model's name), ``options`` (its options, JSON) and
``objective`` (what it was trained for, JSON). Tensors are int8 or float16 where that costs nothing
(see ``toolkit.format.tensors``) and are widened on loading.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import InputError, MissingError
from toolkit.format.errors import OtherModel
from toolkit.format.tensors import unpack

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Weights:
    """A weights file that has been read and checked."""

    path: Path
    model: str
    options: dict[str, Any]
    objective: dict[str, Any]
    fingerprint: bytes
    """First 8 bytes of the SHA-256 of the file: in every coded file, so that a decoder with
    other weights says so before it decodes."""
    tensors: dict[str, Tensor]


def fingerprint(path: Path) -> bytes:
    """First 8 bytes of the SHA-256 of a weights file. Raises MissingError."""
    try:
        return hashlib.sha256(path.read_bytes()).digest()[:8]
    except OSError:
        raise MissingError(f"{path}: no such weights file") from None


@cache
def load_weights(path: Path) -> Weights:
    """Read a weights file; cached, since the files are large and codecs many.

    Raises MissingError where there is no such file, InputError where it isn't weights.
    """
    from safetensors import SafetensorError, safe_open

    digest = fingerprint(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return Weights(
            path,
            metadata["model"],
            json.loads(metadata["options"]),
            json.loads(metadata["objective"]),
            digest,
            unpack(tensors),
        )
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: not a weights file of the toolkit ({error})") from None


def find_weights(name: str, folder: Path) -> Path:
    """The file that ``name`` means: a path (it has a slash or a suffix), or a name in ``folder``.

    Raises MissingError that lists what is there.
    """
    is_path = name.endswith(SUFFIX) or Path(name).name != name
    path = Path(name) if is_path else folder / f"{name}{SUFFIX}"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in folder.glob(f"*{SUFFIX}"))) or "none"
        raise MissingError(f"weights '{name}': no such file; shipped: {there}")
    return path.resolve()


def weights_of_fingerprint(wanted: bytes, folder: Path) -> Path | None:
    """The file in ``folder`` with this fingerprint, if there is one."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if fingerprint(path) == wanted:
            return path
    return None


def weights_for_file(wanted: bytes, given: Path | None, folder: Path) -> Path:
    """The weights to decode a file with whose header has the fingerprint ``wanted``: those
    ``given`` by the user, or those in ``folder`` that fit.

    Raises OtherModel where none do. Whether what was given fits is for the decoder to check.
    """
    path = given.absolute() if given else weights_of_fingerprint(wanted, folder)
    if path is None:
        raise OtherModel(
            f"the file was made with weights {wanted.hex()}, which aren't among those "
            "installed: name their file with --weights"
        )
    return path
