"""Weights files: safetensors with what they are of in the metadata, never pickles.

The metadata holds ``model`` (an entropy model's name), ``options`` (its options, JSON),
``objective`` (what it was trained for, JSON) and ``format`` (``FORMAT``). Tensors
are int8 or float16 where that costs nothing (see ``toolkit.format.tensors``) and are widened on
loading. Those named ``rates.…`` are whole numbers of the rates' prediction
(``toolkit.sampling.rate_prediction``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import InputError, MissingError
from toolkit.format.files import write_bytes_atomically
from toolkit.format.tensors import pack, unpack
from toolkit.format.weights_url import fetched_weights, is_url, locate_weights
from toolkit.sampling.rate_prediction import PREFIX, RatePredictor

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
FORMAT = "2"
"""Of files whose fingerprint is over architecture and tensors; the first version had none."""
_ALIGNMENT = 8


@dataclass(frozen=True)
class Weights:
    """A weights file that has been read and checked."""

    path: Path
    model: str
    options: dict[str, Any]
    objective: dict[str, Any]
    fingerprint: bytes
    """8 bytes over architecture and tensors: in every coded file, so that a decoder with other
    weights says so before it decodes."""
    tensors: dict[str, Tensor]
    """Of the model."""
    rates: RatePredictor | None = None
    """What guesses the rates of its latent elements, if it was trained."""


def write_weights(
    path: Path,
    model: str,
    options: Mapping[str, Any],
    objective: Mapping[str, Any],
    state: dict[str, Tensor],
) -> None:
    """Write a weights file: the same content gives the same bytes, whenever and wherever.

    Arguments:
        path: the file; replaced where it is there.
        model: the entropy model's name.
        options: its options.
        objective: what it was trained for.
        state: its tensors, as ``state_dict`` has them.
    """
    metadata = {
        "format": FORMAT,
        "model": model,
        "options": json.dumps(options, sort_keys=True),
        "objective": json.dumps(objective, sort_keys=True),
    }
    _write(path, metadata, pack(state))


def write_weights_with_rates(source: Path, path: Path, rates: Mapping[str, Tensor]) -> None:
    """Write a copy of a weights file with other, or first, tensors of the rates' prediction.

    Arguments:
        source: the weights file.
        path: the copy; replaced where it is there.
        rates: what ``RateNetwork.tensors`` returns.

    Raises what ``load_weights`` does.
    """
    from safetensors import safe_open

    load_weights(source)
    with safe_open(source, framework="pt") as file:
        names = [name for name in file.keys() if not name.startswith(PREFIX)]  # noqa: SIM118
        tensors = {name: file.get_tensor(name) for name in names}
        metadata = {**file.metadata(), "format": FORMAT}
    _write(path, metadata, {**tensors, **{PREFIX + name: rates[name] for name in rates}})


def _write(path: Path, metadata: Mapping[str, str], tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save

    written = save(tensors, dict(metadata))  # whose metadata is in a random order
    header, start = _header(written)
    entries = {**header, "__metadata__": dict(sorted(metadata.items()))}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    write_bytes_atomically(path, len(text).to_bytes(8, "little") + text + written[start:])


def fingerprint(path: Path) -> bytes:
    """8 bytes over architecture and tensors of a weights file, whatever the order they lie in.

    Files of the first version, which had no ``format`` in their metadata, keep what released
    coded files know them by: the beginning of the SHA-256 of all their bytes. Raises MissingError.
    """
    try:
        data = path.read_bytes()
    except OSError:
        raise MissingError(f"{path}: no such weights file") from None
    try:
        return _canonical_fingerprint(data) or hashlib.sha256(data).digest()[:8]
    except (ValueError, KeyError, TypeError, RecursionError):  # whoever loads it will say so
        return hashlib.sha256(data).digest()[:8]


def _canonical_fingerprint(data: bytes) -> bytes | None:
    """None for a file of the first version."""
    header, start = _header(data)
    metadata = header.pop("__metadata__", {})
    if metadata.get("format") != FORMAT:
        return None
    names = sorted(header)
    architecture = {
        "model": metadata["model"],
        "options": json.loads(metadata["options"]),
        "tensors": [[name, header[name]["dtype"], header[name]["shape"]] for name in names],
    }
    digest = hashlib.sha256(json.dumps(architecture, sort_keys=True).encode())
    for name in names:
        begin, end = header[name]["data_offsets"]
        digest.update(memoryview(data)[start + begin : start + end])
    return digest.digest()[:8]


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where its tensors start. Raises ValueError."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    if start > len(data) or not isinstance(header, dict):
        raise ValueError("no header")
    return header, start


@lru_cache(maxsize=8)
def load_weights(path: Path) -> Weights:
    """Read a weights file; the last few are kept, since the files are large and codecs many.

    Raises MissingError where there is no such file, InputError where it isn't weights.
    """
    from safetensors import SafetensorError, safe_open

    digest = fingerprint(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        options, objective = (json.loads(metadata[key]) for key in ("options", "objective"))
        if not isinstance(options, dict) or not isinstance(objective, dict):
            raise ValueError("options and objective must be mappings")
        rates = {
            name.removeprefix(PREFIX): tensors.pop(name).numpy()
            for name in list(tensors)
            if name.startswith(PREFIX)
        }
        predictor = RatePredictor.from_tensors(rates)
        state = unpack(tensors)
        return Weights(path, metadata["model"], options, objective, digest, state, predictor)
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        text = " ".join(str(error).split())
        raise InputError(f"{path}: not a weights file of the toolkit ({text})") from None


def find_weights(name: str, folder: Path) -> Path:
    """The file that ``name`` means, for encoding: a name in ``folder``, a path (it has a slash or a
    suffix), or a URL (``toolkit.format.weights_url``), fetched where it isn't there yet.

    Raises MissingError that lists what is there, and what ``locate_weights`` does.
    """
    if is_url(name):
        return locate_weights(name)
    is_path = name.endswith(SUFFIX) or Path(name).name != name
    path = Path(name) if is_path else folder / f"{name}{SUFFIX}"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in folder.glob(f"*{SUFFIX}"))) or "none"
        raise MissingError(f"weights '{name}': no such file; shipped: {there}")
    return path.resolve()


def weights_of_fingerprint(wanted: bytes, folder: Path) -> Path | None:
    """The file with this fingerprint in ``folder``, or else among those once fetched."""
    for path in (*sorted(folder.glob(f"*{SUFFIX}")), *fetched_weights()):
        if fingerprint(path) == wanted:
            return path
    return None
