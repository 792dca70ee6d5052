"""The library: load a preset, encode, decode, evaluate, three lines each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.plugin.loader import Plugins, load_plugins
from toolkit.plugin.presets import load_registry, open_codec

if TYPE_CHECKING:
    from toolkit.codec.base import Codec, Decoded, DecodeSettings, Pixels
    from toolkit.codec.container_codec import ContainerCodec
    from toolkit.format.container import Container
    from toolkit.plugin.specs import CodecSpec


def load(
    preset: str,
    options: Mapping[str, Any] | None = None,
    *,
    plugins: Plugins | None = None,
    registry: str | Path | None = None,
) -> Codec:
    """The codec of a preset; ``options`` are dotted, as in ``{"level1.bits": 10}``.

    Raises UnknownName or UsageError for names and options that aren't right, and MissingError
    for what isn't installed.
    """
    plugins = plugins or load_plugins()
    presets = load_registry(plugins, Path(registry) if registry else None)
    return open_codec(plugins, presets.preset(preset, options))


def codec_of_container(container: Container, plugins: Plugins) -> ContainerCodec:
    """The codec that a .qf file names. Raises UnknownPlugin where there is none."""
    from toolkit.codec.container_codec import ContainerCodec
    from toolkit.errors import UnknownName
    from toolkit.format.container import UnknownPlugin

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
    from toolkit.format.container import NotAContainer

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

    Raises a ``container.BadFile`` for a file that no codec here reads.
    """
    from toolkit.codec.base import DecodeSettings
    from toolkit.format.container import is_container, read_beginning, read_container

    settings, plugins = settings or DecodeSettings(), plugins or load_plugins()
    if not is_container(data):
        return codec_of_native_file(data, plugins).decode(data, settings)
    container = read_beginning(data) if settings.partial else read_container(data)
    return codec_of_container(container, plugins).decode_container(container, settings)


def decode(data: bytes) -> Pixels:
    """Pixels, uint8 (H, W, C), of a coded file of any installed codec.

    Raises a ``container.BadFile`` (all with one base class) for a file that can't be decoded.
    """
    return decode_file(data).pixels


def evaluate(
    presets: str | Sequence[str], images: str | Path | Iterable[str | Path], **settings: Any
) -> Any:
    """Rate and distortion of presets on images (files, folders or a named data set).

    Settings are those of ``toolkit_evaluation.evaluate``, to which this hands over; the table
    that it returns has ``rows`` (one an image, preset and point) and ``means``.
    """
    from toolkit_evaluation import evaluate as run

    names = [presets] if isinstance(presets, str) else list(presets)
    places = [images] if isinstance(images, (str, Path)) else list(images)
    return run(names, places, **settings)
