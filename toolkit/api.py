"""The library: load a preset, encode, decode, evaluate, three lines each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.plugin.loader import Plugins, installed_plugins
from toolkit.plugin.presets import load_registry, open_codec

if TYPE_CHECKING:
    from toolkit.codec.base import Codec, Decoded, DecodeSettings, Pixels
    from toolkit_evaluation import EvaluationSettings, Table


def load(
    preset: str,
    options: Mapping[str, Any] | None = None,
    *,
    device: str = "cpu",
    plugins: Plugins | None = None,
    registry: str | Path | None = None,
) -> Codec:
    """The codec of a preset; ``options`` are dotted, as in ``{"levels.level1.bits": 10}``;
    ``device`` is where its networks run: ``cpu``, ``cuda``, ``mps``, or ``auto`` for a GPU where
    there is one.

    Raises UnknownName or UsageError for names and options that aren't right, and MissingError
    for what isn't installed.
    """
    plugins = plugins or installed_plugins()
    presets = load_registry(plugins, Path(registry) if registry else None)
    return open_codec(plugins, presets.preset(preset, options), device)


def decode_file(
    data: bytes, settings: DecodeSettings | None = None, plugins: Plugins | None = None
) -> Decoded:
    """Decode a coded file of any installed codec; see ``toolkit.codec.opening``."""
    from toolkit.codec import opening

    return opening.decode_file(data, settings, plugins)


def decode(data: bytes, device: str = "cpu", *, download: bool = False) -> Pixels:
    """Pixels, uint8 (H, W, C), of a coded file of any installed codec; ``device`` as of ``load``.

    Raises a ``container.BadFile`` (all with one base class) for a file that can't be decoded, and
    MissingError where it takes weights that aren't here, and ``download`` doesn't let them be
    fetched.
    """
    from toolkit.codec.base import DecodeSettings

    return decode_file(data, DecodeSettings(device=device, download=download)).pixels


def evaluate(
    presets: str | Sequence[str],
    images: str | Path | Iterable[str | Path],
    settings: EvaluationSettings | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    plugins: Plugins | None = None,
    registry: str | Path | None = None,
) -> Table:
    """Rate and distortion of presets on images; hands over to ``toolkit_evaluation.evaluate``.

    Arguments:
        presets: Names in the registry.
        images: Files, folders or named data sets.
        settings: A ``toolkit_evaluation.EvaluationSettings``: points, metrics, the folder that
            keeps results, processes.
        options: Dotted options laid over every preset, as in ``{"seed": 3}``.

    Returns:
        A table with ``rows`` (one an image, preset and point) and their ``means``.
    """
    from toolkit_evaluation import EvaluationSettings
    from toolkit_evaluation import evaluate as run

    return run(
        presets,
        images,
        settings or EvaluationSettings(),
        options=options,
        plugins=plugins,
        registry=registry,
    )
