"""Networks and weights: CompressAI's zoo by name, a file of CompressAI's, or one of ours.

Ours are safetensors: what ``toolkit train`` leaves, or what ``save_checkpoint`` makes of a model of
CompressAI's, with the architecture in its metadata and the coder's tables among the tensors.
CompressAI's own checkpoints are pickles: they are only ever read with torch's loader
for plain tensors, which runs no code.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import pickle
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.error import URLError

import msgspec

from toolkit.errors import InputError, MissingError, UsageError
from toolkit.format.files import write_atomically
from toolkit.format.weights import load_weights
from toolkit.format.weights_url import is_url, locate_weights
from toolkit_plugins.compressai.upstream import compressai, submodule

VARIABLE_RATE = ("bmshj2018-hyperprior-vbr", "mbt2018-mean-vbr", "mbt2018-vbr")
SIX_QUALITIES = ("cheng2020-anchor", "cheng2020-attn")
EIGHT_QUALITIES = ("bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean", "mbt2018")
ARCHITECTURES = (*EIGHT_QUALITIES, *SIX_QUALITIES, *VARIABLE_RATE)
AUTOREGRESSIVE = ("mbt2018", "mbt2018-vbr", *SIX_QUALITIES)

TABLES = ("_offset", "_quantized_cdf", "_cdf_length", "scale_table")
"""Buffers of CompressAI's entropy models that ``update`` makes."""
_NETWORK = "net."
"""What names of tensors begin with in weights that ``toolkit train`` left."""
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")


class Source(msgspec.Struct, frozen=True):
    """Which network with which weights."""

    architecture: str
    quality: int
    """1 to 8 (6 for cheng2020); 0 for variable-rate models, which have one set of weights."""
    metric: str = "mse"
    weights: str = ""
    """A file, in which ``{quality}`` stands for the quality; empty for CompressAI's zoo."""
    sha256: str = ""
    """What the file's SHA-256 must begin with; empty to take any."""


@dataclass(frozen=True)
class Network:
    """A network, ready to code: in evaluation mode, on the CPU, its tables computed."""

    architecture: str
    model: Any
    fingerprint: bytes
    """8 bytes over architecture and weights."""

    @property
    def variable_rate(self) -> bool:
        return self.architecture in VARIABLE_RATE

    @property
    def autoregressive(self) -> bool:
        return self.architecture in AUTOREGRESSIVE


def fetch(source_of: Callable[[float], Source], points: Iterable[float]) -> None:
    """Make sure that the weights for coding at ``points`` are there. Raises MissingError."""
    for point in points:
        locate(source_of(point))


def sources(source_of: Callable[[float], Source], low: float, high: float) -> set[Source]:
    """Those of all whole qualities."""
    return {source_of(float(point)) for point in range(int(low), int(high) + 1)}


@lru_cache(maxsize=4)
def load_network(source: Source) -> Network:
    """The network of a source, downloaded where the zoo has it and it isn't there yet.

    Raises MissingError, InputError or UsageError; the messages name the file.
    """
    path = locate(source)
    _check_hash(path, source.sha256)
    state = _read_state(path, source.architecture)
    model = _build(source.architecture, state, path)
    model.eval().requires_grad_(False)
    fingerprint = _fingerprint(source.architecture, model)
    if not source.architecture.endswith("-vbr"):
        model.update()
    return Network(source.architecture, model, fingerprint)


def save_checkpoint(model: Any, architecture: str, path: Path) -> None:
    """Write a CompressAI model as safetensors, its tables computed."""
    from safetensors.torch import save

    model_class(architecture)
    model.update()
    tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
    data = save(tensors, metadata={"architecture": architecture})
    write_atomically(path, lambda file: file.write(data))


def locate(source: Source, download: bool = True) -> Path:
    """The weights file. One of the zoo, or of a URL, is fetched if need be, and if ``download``
    lets it. Raises MissingError, and what ``locate_weights`` does."""
    if source.weights:
        return locate_weights(source.weights.replace("{quality}", str(source.quality)), download)
    url = _zoo_url(source)
    import torch

    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        if not download:
            raise MissingError(
                f"{path.name}: these weights of CompressAI's zoo aren't here yet, and decoding "
                "fetches none unless told to (--download)"
            )
        _download(url, path)
    return path


def what_codes(sources: Iterable[Source]) -> dict[str, Any]:
    """CompressAI's version, and the SHA-256 (16 digits) of the weights files that were named.

    The zoo's files have theirs in their names, which CompressAI's version fixes.
    """
    try:
        version = importlib.metadata.version("compressai")
    except importlib.metadata.PackageNotFoundError:
        version = "missing"
    found = {}
    for source in sorted(sources, key=lambda source: source.quality):
        name = source.weights.replace("{quality}", str(source.quality))
        path = locate_weights(name) if is_url(name) else Path(name)
        if source.weights and path.is_file():
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return {"compressai": version, **({"weights": found} if found else {})}


def _zoo_url(source: Source) -> str:
    zoo = submodule("zoo.image_vbr" if source.architecture in VARIABLE_RATE else "zoo.image")
    by_metric = zoo.model_urls.get(source.architecture, {})
    if source.metric not in by_metric:
        raise MissingError(f"CompressAI has no {source.architecture} trained for {source.metric}")
    found = by_metric[source.metric]
    return str(found if isinstance(found, str) else found[source.quality])


def _download(url: str, path: Path) -> None:
    """CompressAI's own way (torch.hub), plus the check of the hash that the name carries."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = _HASH_IN_NAME.search(path.name)
    try:
        torch.hub.download_url_to_file(url, str(path), prefix.group(1) if prefix else None)
    except (URLError, OSError, RuntimeError) as error:
        raise MissingError(
            f"{path.name} can't be downloaded ({error}): fetch {url} elsewhere and put it at "
            f"{path}, or name a file (option weights; --weights to decode)"
        ) from None


def _check_hash(path: Path, wanted: str) -> None:
    in_name = _HASH_IN_NAME.search(path.name)
    wanted = wanted.lower() or (in_name.group(1) if in_name else "")
    if not wanted:
        return
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if not found.startswith(wanted):
        raise InputError(f"{path}: its SHA-256 begins {found[:16]}, not {wanted[:16]}: damaged, "
                         "or another file")  # fmt: skip


def _read_state(path: Path, architecture: str) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        return _read_safetensors(path, architecture)
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        text = str(error).split("\n")[0]
        raise InputError(f"{path}: not a checkpoint of plain tensors ({text})") from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise InputError(f"{path}: not a checkpoint of plain tensors")
    return dict(compressai().zoo.load_state_dict(state))


def _read_safetensors(path: Path, architecture: str) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            written = metadata.get("architecture") or metadata.get("model", "unknown")
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from None
    if written != architecture:
        raise UsageError(f"{path}: weights of '{written}', not of '{architecture}'")
    return state if "architecture" in metadata else _trained(path)


def _trained(path: Path) -> dict[str, Any]:
    """The tensors of weights that ``toolkit train`` left, as CompressAI names them, and empty
    tables, which it wants to be there."""
    import torch

    tensors = load_weights(path).tensors
    state = {key.removeprefix(_NETWORK): value for key, value in tensors.items()}
    parts = ["entropy_bottleneck"]
    if any(key.startswith("h_s.") for key in state):
        parts.append("gaussian_conditional")
        state["gaussian_conditional.scale_table"] = torch.Tensor()
    for part in parts:
        state.update({f"{part}.{name}": torch.IntTensor() for name in TABLES[:3]})
    return state


def model_class(architecture: str) -> Any:
    """CompressAI's class of this name. Raises MissingError."""
    zoo = submodule("zoo.image_vbr" if architecture in VARIABLE_RATE else "zoo.image")
    return zoo.model_architectures[architecture]


def _build(architecture: str, state: dict[str, Any], path: Path) -> Any:
    extra = {}
    if any(key.startswith("gayn2zqstep") for key in state):
        import torch

        extra["vr_entbttlnck"] = True
        # its tables depend on the rate and are computed for each; none can be loaded
        empty = torch.IntTensor()
        state.update({f"entropy_bottleneck.{name}": empty for name in TABLES[:3]})
    try:
        return model_class(architecture).from_state_dict(state, **extra)
    except (KeyError, RuntimeError, IndexError, TypeError) as error:
        text = " ".join(str(error).split())[:200]
        raise UsageError(f"{path}: not weights of {architecture} ({text})") from None


def _fingerprint(architecture: str, model: Any) -> bytes:
    """Tables left out: they may be computed here, and files carry a hash of them."""
    digest = hashlib.sha256(architecture.encode())
    for key, value in sorted(model.state_dict().items()):
        if not key.endswith(TABLES):
            digest.update(key.encode())
            digest.update(value.contiguous().numpy().tobytes())
    return digest.digest()[:8]
