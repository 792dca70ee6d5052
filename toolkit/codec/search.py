"""Finding the point of a codec at which an image comes to a wanted rate or quality."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.codec.base import as_picture, as_rgb
from toolkit.errors import InputError

if TYPE_CHECKING:
    from toolkit.codec.base import Codec, ImageLike, Picture
    from toolkit.plugin.specs import MetricSpec, RateParameter

STEPS = 12
"""Halvings of the range of points, where they aren't whole numbers."""
TOLERANCE = 0.005
"""Relative distance from a wanted rate, or dB from a wanted PSNR, that is near enough."""


@dataclass(frozen=True)
class PointTarget:
    """At most so many bits per pixel (``bpp``), or at least so many dB (``psnr``)."""

    kind: str
    value: float

    def __str__(self) -> str:
        return f"{self.kind}{'<=' if self.kind == 'bpp' else '>='}{self.value:g}"

    @property
    def word(self) -> str:
        """For file names."""
        return f"{self.kind}-{self.value:g}"

    @classmethod
    def parse(cls, text: str) -> PointTarget:
        """The target that is written ``text``."""
        kind, value = text.replace(">=", "<=").split("<=")
        return cls(kind, float(value))

    def distance(self, value: float) -> float:
        """How much is left (above 0), or too much (below), in units of ``TOLERANCE``."""
        if self.kind == "bpp":
            return (self.value - value) / self.value / TOLERANCE
        return (value - self.value) / TOLERANCE


def find_point(
    codec: Codec, image: ImageLike, target: PointTarget, metrics: Mapping[str, MetricSpec]
) -> float:
    """The point nearest to ``target`` that meets it, by bisection: size and quality are taken
    to rise or fall with the rate parameter, as they do but for small dents.

    Arguments:
        codec: Codes the image, some ten times.
        image: As ``Codec.encode`` takes it; its metadata counts in rates.
        target: What the file must come to.
        metrics: Metrics by name, ``psnr`` among them where the target is one of quality.

    Returns:
        The point, in the units of the codec's rate parameter.

    Raises:
        InputError: No point meets the target.
    """
    parameter, picture = codec.spec.rate_parameter, as_picture(image)

    def distance(point: float) -> float:
        return target.distance(_value(codec, picture, point, target, metrics))

    # ``safe`` meets the target if any point does, ``far`` is at the other end of the range
    low_rate, high_rate = parameter.low, parameter.high
    if parameter.more_bits == "down":
        low_rate, high_rate = high_rate, low_rate
    safe, far = (low_rate, high_rate) if target.kind == "bpp" else (high_rate, low_rate)
    left = distance(safe)
    if left < 0:
        value = _value(codec, picture, safe, target, metrics)
        raise InputError(
            f"{target} can't be met: {parameter.name} {safe:g} comes to {value:.4g} {target.kind}"
        )
    if distance(far) >= 0:
        return far
    return _bisect(distance, safe, far, left, parameter)


def _bisect(
    distance: Callable[[float], float],
    safe: float,
    far: float,
    left: float,
    parameter: RateParameter,
) -> float:
    whole = parameter.integer
    for _ in range(math.ceil(math.log2(abs(far - safe))) + 1 if whole else STEPS):
        if left <= 1 or (whole and abs(far - safe) <= 1):
            break
        middle = (safe + far) / 2
        if whole:
            middle = float(round(middle))
        found = distance(middle)
        if found >= 0:
            safe, left = middle, found
        else:
            far = middle
    return safe


def _value(
    codec: Codec,
    picture: Picture,
    point: float,
    target: PointTarget,
    metrics: Mapping[str, MetricSpec],
) -> float:
    data, pixels = codec.encode(picture, point).data, picture.pixels
    if target.kind == "bpp":
        return 8 * len(data) / (pixels.shape[0] * pixels.shape[1])
    decoded = codec.decode(data).pixels
    return float(metrics[target.kind].loaded(as_rgb(pixels), as_rgb(decoded)))
