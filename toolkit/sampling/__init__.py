"""Coded samplers: the contract, the shared random numbers, the ladder that they code.

For samples of any Gaussians, without a codec: ``encode_gaussians`` and ``decode_gaussians``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.sampling.gaussians import decode_gaussians, encode_gaussians

__all__ = ["decode_gaussians", "encode_gaussians"]


def __getattr__(name: str) -> Any:
    """Loaded when first used: a listing of samplers needs no numerics."""
    if name not in __all__:
        raise AttributeError(f"module 'toolkit.sampling' has no attribute '{name}'")
    return getattr(importlib.import_module("toolkit.sampling.gaussians"), name)
