"""What the scripts ``golden/*/make.py`` have in common: coded pictures and what they decode to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from random_models import picture

from toolkit.codec.metadata import NO_METADATA, Metadata
from toolkit.codec.picture import Picture
from toolkit.options import parse_options
from toolkit.plugin.loader import load_plugins

SHAPES = {"RGB": 3, "RGBA": 4, "L": 1}


def write_golden(
    folder: Path,
    codec: str,
    cases: Mapping[str, Mapping[str, Any]],
    pictures: tuple[tuple[str, tuple[int, int]], ...],
    point: float,
    metadata: Metadata = NO_METADATA,
) -> None:
    """``NAME-MODE-HxW.qf`` and its picture for each case's options and each mode and size.

    Files that are there stay as they are for good.
    """
    plugins = load_plugins()
    spec = plugins.codec(codec)
    for name, options in cases.items():
        for mode, (height, width) in pictures:
            path = folder / f"{name}-{mode}-{height}x{width}.qf"
            if path.exists():
                continue
            parsed = parse_options(spec.loaded.options_class, {"seed": 5, **options}, name)
            pixels = picture(height, width, seed=3, channels=SHAPES[mode])
            encoded = spec.loaded(spec, parsed, plugins).encode(Picture(pixels, metadata), point)
            path.write_bytes(encoded.data)
            shown = encoded.reconstruction
            Image.fromarray(np.squeeze(shown, axis=2) if mode == "L" else shown).save(
                path.with_suffix(".png"), **metadata.saved()
            )
