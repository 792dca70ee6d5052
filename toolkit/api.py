"""The library: load a preset, encode, decode, evaluate, three lines each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.plugin.loader import Plugins, load_plugins
from toolkit.plugin.presets import load_registry, open_codec

if TYPE_CHECKING:
    from toolkit.codec.base import Codec, Decoded, DecodeSettings, Pixels


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


def open_file(data: bytes, settings: DecodeSettings, plugins: Plugins | None = None) -> Codec:
    """The codec that a coded file needs: by its header for a .qf, else by its first bytes.

    Raises a ``container.BadFile`` for a file that no codec here reads.
    """
    from toolkit.errors import UnknownName
    from toolkit.format.container import UnknownPlugin, is_container, read_container

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
    from toolkit.format.container import NotAContainer

    for spec in plugins.codecs.values():
        if spec.magic and any(data[at : at + len(m)] == m for at, m in spec.magic):
            codec: Codec = spec.loaded(spec, spec.loaded.options_class(), plugins)
            return codec
    raise NotAContainer("neither a .qf file nor one of a codec that is installed")


def decode_file(
    data: bytes, settings: DecodeSettings | None = None, plugins: Plugins | None = None
) -> Decoded:
    """Decode a coded file of any installed codec."""
    from toolkit.codec.base import DecodeSettings

    settings = settings or DecodeSettings()
    return open_file(data, settings, plugins).decode(data, settings)


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
