"""Optional packages: which extra of our distribution installs each, and what to say without it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from toolkit.errors import MissingError

EXTRA_OF = {
    "av": "hevc",
    "pillow_heif": "hevc",
    "pillow_jxl": "jxl",
    "compressai": "compressai",
    "lpips": "metrics",
    "DISTS_pytorch": "metrics",
    "torchvision": "metrics",
    "bjontegaard": "eval",
    "matplotlib": "eval",
    "pytorch_msssim": "eval",
    "skimage": "eval",
    "distributed": "cluster",
    "tensorboard": "tensorboard",
}
"""Module -> the extra that installs it."""


def present(module: str) -> bool:
    """Whether a package is installed; imports nothing of it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def extras_of(modules: Iterable[str]) -> list[str]:
    """The extras that install these, as far as extras do."""
    return list(dict.fromkeys(EXTRA_OF[name] for name in modules if name in EXTRA_OF))


def install_command(extras: Iterable[str]) -> str:
    """What installs these extras; empty for none."""
    names = ",".join(extras)
    return f"pip install 'compression-without-quantization[{names}]'" if names else ""


def not_installed(who: str, modules: Iterable[str]) -> MissingError:
    """The error of one who needs packages that aren't there: their names, and how to get them."""
    modules = list(modules)
    hint = f"; {text}" if (text := install_command(extras_of(modules))) else ""
    return MissingError(f"{who} needs {', '.join(modules)}: not installed{hint}")


def require(who: str, *modules: str) -> None:
    """Whether packages are there, asked before long work. Raises MissingError."""
    if absent := [name for name in modules if not present(name)]:
        raise not_installed(who, absent)
