"""Compression without quantization: a toolkit of image codecs and coded samplers.

::

    import toolkit

    codec = toolkit.load("pln-isgs")
    data = codec.encode("photo.png", 0.4).data      # bytes of a .qf file
    pixels = toolkit.decode(data)                    # uint8 (H, W, C)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.api import decode, evaluate, load
    from toolkit.models import load_model
    from toolkit.plugin.hookspecs import hookimpl

    __version__: str

__all__ = ["__version__", "decode", "evaluate", "hookimpl", "load", "load_model"]

_PLACES = {
    "decode": "toolkit.api",
    "evaluate": "toolkit.api",
    "hookimpl": "toolkit.plugin.hookspecs",
    "load": "toolkit.api",
    "load_model": "toolkit.models",
}
"""Where the names are from; each module is imported when it is first needed, since the program
starts with this one."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("compression-without-quantization")
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'toolkit' has no attribute '{name}'")
