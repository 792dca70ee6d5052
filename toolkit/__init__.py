"""Compression without quantization: a toolkit of image codecs and coded samplers.

::

    import toolkit

    codec = toolkit.load("pln-isgs")
    data = codec.encode("photo.png", 0.4).data      # bytes of a .qf file
    pixels = toolkit.decode(data)                    # uint8 (H, W, C)
"""

from toolkit.api import decode, evaluate, load
from toolkit.plugin.hookspecs import hookimpl

__all__ = ["decode", "evaluate", "hookimpl", "load"]
