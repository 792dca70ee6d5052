"""Index counts estimated on images: what each sampler of a codec sends, level by level."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from toolkit.errors import UsageError
from toolkit.sampling.capabilities import CountsIndices, SendsSamples
from toolkit.sampling.coding.counts import Counts
from toolkit.sampling.randomness import SharedRandom

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.sampling.coding.bits import Ints


def estimate_counts(
    codec: SendsSamples,
    images: Mapping[str, Path],
    points: Sequence[float],
    alpha: float,
    on_image: Callable[[str], None] = lambda name: None,
) -> dict[str, Counts]:
    """Counts for each level whose sampler counts indices, summed over images and points.

    Raises UsageError where no level's sampler does.
    """
    from toolkit.codec.base import as_pixels

    samplers = {
        name: sampler
        for name, sampler in codec.samplers().items()
        if isinstance(sampler, CountsIndices)
    }
    if not samplers:
        raise UsageError("none of the codec's samplers counts indices: rejection does")
    totals: dict[str, Ints] = {}
    for seed, (image, path) in enumerate(images.items()):
        pixels = as_pixels(path)
        for point in points:
            for depth, target in enumerate(codec.targets(pixels, point)):
                level = target.name
                if level in samplers:
                    random = SharedRandom(seed & 255, depth)
                    found = samplers[level].count_indices(target.d, target.r, random)
                    totals[level] = totals[level] + found if level in totals else found
        on_image(image)
    source = f"{len(images)} images, points {', '.join(f'{point:g}' for point in points)}"
    return {level: Counts(table, alpha, source) for level, table in totals.items()}
