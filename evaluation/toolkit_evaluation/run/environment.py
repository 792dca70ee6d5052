"""What a number may depend on beside the inputs: versions, processor, threads."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import TYPE_CHECKING, Any

from toolkit.environment import processor_name
from toolkit.threads import VARIABLES

if TYPE_CHECKING:
    from toolkit.plugin.loader import Plugins

DISTRIBUTIONS = (
    "compression-without-quantization",
    "torch",
    "torchvision",
    "compressai",
    "pillow",
    "numpy",
    "numba",
    "constriction",
    "pytorch-msssim",
    "bjontegaard",
    "safetensors",
    "pillow-heif",
    "pillow-jxl-plugin",
    "av",
)


def versions(plugins: Plugins) -> dict[str, Any]:
    """Versions of everything that can change a result, for ``run.json``."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": processor_name(),
        "cpus": os.cpu_count(),
        "gpu": _gpu(),
        "packages": {name: v for name in DISTRIBUTIONS if (v := _version(name))},
        "image_libraries": _image_libraries(),
        "threads": _threads(),
        "plugins": [
            {"name": r.name, "origin": r.origin, "error": r.error} for r in plugins.records
        ],
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _image_libraries() -> dict[str, str]:
    """Versions of the libraries inside Pillow: another libjpeg, other pixels."""
    from PIL import features

    found = {name: features.version(name) for name in ("jpg", "jpg_2000", "webp", "avif", "zlib")}
    found["libjpeg_turbo"] = features.version("libjpeg_turbo")
    return {name: str(version) for name, version in found.items() if version}


def _threads() -> dict[str, Any]:
    result: dict[str, Any] = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    if "torch" in sys.modules:
        import torch

        result["torch"] = torch.get_num_threads()
    return result


def _gpu() -> str | None:
    if "torch" not in sys.modules:
        return None
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
