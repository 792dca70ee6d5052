"""Opening coded files: which codec reads one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.codec.base import Codec, Decoded, DecodeSettings
from toolkit.errors import UnknownName
from toolkit.format.container import (
    NotAContainer,
    UnknownPlugin,
    is_container,
    read_container,
)
from toolkit.plugin.loader import load_plugins

if TYPE_CHECKING:
    from toolkit.plugin.loader import Plugins


def open_file(data: bytes, settings: DecodeSettings, plugins: Plugins | None = None) -> Codec:
    """The codec that a coded file needs: by its header for a .qf, else by its first bytes.

    Raises a ``container.BadFile`` for a file that no codec here reads.
    """
    plugins = plugins or load_plugins()
    if not is_container(data):
        return _open_native(data, plugins)
    container = read_container(data)
    try:
        spec = plugins.codec(container.codec)
    except UnknownName as error:
        raise UnknownPlugin(f"the file needs a codec that isn't installed: {error}") from None
    codec: Codec = spec.loaded.for_file(spec, container, settings, plugins)
    return codec


def _open_native(data: bytes, plugins: Plugins) -> Codec:
    for spec in plugins.codecs.values():
        if spec.magic and any(data[at : at + len(m)] == m for at, m in spec.magic):
            codec: Codec = spec.loaded(spec, spec.loaded.options_class(), plugins)
            return codec
    raise NotAContainer("neither a .qf file nor one of a codec that is installed")


def decode_file(
    data: bytes, settings: DecodeSettings | None = None, plugins: Plugins | None = None
) -> Decoded:
    """Decode a coded file of any installed codec.

    Raises a ``container.BadFile`` (all with one base class) for a file that can't be decoded.
    """
    settings = settings or DecodeSettings()
    return open_file(data, settings, plugins).decode(data, settings)
