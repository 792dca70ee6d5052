"""Compression without quantization: a toolkit of image codecs and coded samplers.

::

    import toolkit

    codec = toolkit.load("pln-isgs")
    data = codec.encode("photo.png", 0.4).data      # bytes of a .qf file
    pixels = toolkit.decode(data)                    # uint8 (H, W, C)
"""

from toolkit.api import decode, evaluate, load
from toolkit.models import load_model
from toolkit.plugin.hookspecs import hookimpl

__all__ = ["__version__", "decode", "evaluate", "hookimpl", "load", "load_model"]


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("compression-without-quantization")
    raise AttributeError(f"module 'toolkit' has no attribute '{name}'")
