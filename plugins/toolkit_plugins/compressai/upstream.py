"""The one place where CompressAI is imported.

It imports torchvision, whose operators can't be there beside a CPU build of torch from another
source; and its import takes seconds. So it is imported late, through here, and repaired where
that is known to work.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from types import ModuleType
from typing import Any

from toolkit.errors import MissingError

_SYMPTOM = "operator torchvision::nms does not exist"
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_libraries: list[Any] = []
"""Keeps the schemas alive: they vanish with their library object."""


@cache
def compressai() -> ModuleType:
    """The package ``compressai``, imported on first use.

    Raises MissingError where it is missing or its import fails.
    """
    try:
        return _import()
    except Exception as error:  # whatever a broken installation raises
        text = " ".join(str(error).split())
        raise MissingError(f"CompressAI can't be used: {text or type(error).__name__}") from error


def submodule(name: str) -> ModuleType:
    """The module ``compressai.NAME``. Raises MissingError."""
    compressai()
    return importlib.import_module(f"compressai.{name}")


def _import() -> ModuleType:
    try:
        return importlib.import_module("compressai")
    except RuntimeError as error:
        if _SYMPTOM not in str(error):
            raise
    _drop("compressai", "torchvision")
    _declare_operators()
    return importlib.import_module("compressai")


def _drop(*packages: str) -> None:
    """Forget half-imported packages."""
    for name in [*sys.modules]:
        if name.partition(".")[0] in packages:
            del sys.modules[name]


def _declare_operators() -> None:
    """Give torchvision the schemas that it attaches shape functions to.

    The operators themselves (non-maximum suppression) stay undefined; no codec calls them.
    """
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(name + _SCHEMA)  # type: ignore[no-untyped-call]
    _libraries.append(library)
