"""Opening coded files: which codec reads one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.codec.base import Codec, Decoded, DecodeSettings
from toolkit.codec.container_codec import ContainerCodec
from toolkit.errors import UnknownName
from toolkit.format.container import (
    Container,
    NotAContainer,
    UnknownPlugin,
    is_container,
    read_beginning,
    read_container,
)
from toolkit.plugin.loader import installed_plugins

if TYPE_CHECKING:
    from toolkit.plugin.loader import Plugins
    from toolkit.plugin.specs import CodecSpec


def codec_of_container(container: Container, plugins: Plugins) -> ContainerCodec:
    """The codec that a .qf file names. Raises UnknownPlugin where there is none."""
    try:
        spec = plugins.codec(container.codec)
    except UnknownName as error:
        raise UnknownPlugin(f"the file needs a codec that isn't installed: {error}") from None
    codec = open_with_defaults(spec, plugins)
    if not isinstance(codec, ContainerCodec):
        raise UnknownPlugin(f"codec '{spec.name}' writes no .qf files")
    return codec


def codec_of_native_file(data: bytes, plugins: Plugins) -> Codec:
    """The codec whose files begin as ``data`` does. Raises NotAContainer where there is none."""
    for spec in plugins.codecs.values():
        if spec.magic and any(data[at : at + len(m)] == m for at, m in spec.magic):
            return open_with_defaults(spec, plugins)
    raise NotAContainer("neither a .qf file nor one of a codec that is installed")


def open_with_defaults(spec: CodecSpec, plugins: Plugins) -> Codec:
    """The codec with its options as they are by default: what decodes files."""
    codec: Codec = spec.loaded(spec, spec.loaded.options_class(), plugins)
    return codec


def decode_file(
    data: bytes, settings: DecodeSettings | None = None, plugins: Plugins | None = None
) -> Decoded:
    """Decode a coded file of any installed codec: a .qf by its header, else by its first bytes.

    Raises a ``container.BadFile`` (all with one base class) for a file that can't be decoded.
    """
    settings, plugins = settings or DecodeSettings(), plugins or installed_plugins()
    if not is_container(data):
        return codec_of_native_file(data, plugins).decode(data, settings)
    container = read_beginning(data) if settings.partial else read_container(data)
    return codec_of_container(container, plugins).decode_container(container, settings)
