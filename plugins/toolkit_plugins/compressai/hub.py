"""Whether weights are on this machine, found out without importing torch or CompressAI."""

from __future__ import annotations

import os
import re
from pathlib import Path


def checkpoints() -> Path:
    """Where torch.hub keeps what it downloads, and ``checkpoints.locate`` looks."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or os.path.join(cache, "torch")
    return Path(home).expanduser() / "hub" / "checkpoints"


def unavailable_reason(name: str) -> str:
    """Why an architecture can't code by default; empty if the zoo's weights are there, be it in
    part."""
    files = [path.name for path in checkpoints().glob("*.pth.tar")]
    if any(_is_of(name, file) for file in files):
        return ""
    return "weights not here yet: encoding fetches them, or -o weights=FILE"


def _is_of(name: str, file: str) -> bool:
    """The zoo's files are ARCHITECTURE[-prior][-METRIC][-QUALITY]-HASH.pth.tar, with a ``-vbr``
    behind the metric."""
    base, variable = name.removesuffix("-vbr"), name.endswith("-vbr")
    stem = "[-_]".join(re.escape(word) for word in base.split("-"))
    middle = r"(-prior)?(-mse|-ms-ssim)?" + ("-vbr" if variable else r"(-\d)?")
    return re.fullmatch(stem + middle + r"-[0-9a-f]{8}\.pth\.tar", file) is not None
