"""Coding a picture to a wanted size or quality."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from toolkit.codec.search import PointTarget, find_point
from toolkit.errors import InputError, UsageError

if TYPE_CHECKING:
    from toolkit.codec.base import Codec, Encoded, Picture
    from toolkit.plugin.presets import Preset
    from toolkit.plugin.specs import MetricSpec

Open = Callable[["Preset"], "Codec"]
"""Opens the codec of a preset."""
Found = tuple[float, "Encoded", str]
"""The point, the file, and a warning where the target lies beyond the codec's range."""
STEPS = "refinement_steps"


def encode_within(open_with: Open, preset: Preset, picture: Picture, size: int) -> Found:
    """The best file of at most ``size`` bytes.

    The point is looked for without refinement, which takes a dozen files; where the codec can't
    fill the wanted size from there, again with it. Where even the last point of the curve leaves
    room, the file is that point's, as it is: bits beyond it buy nothing.

    Raises InputError where no file is so small.
    """
    coder, pixels = open_with(preset), picture.pixels
    target = PointTarget("bpp", 8 * size / (pixels.shape[0] * pixels.shape[1]))
    for quick in [open_with(_unrefined(preset))] if preset.options.get(STEPS) else []:
        point = find_point(quick, picture, target, {})
        if point != _most(coder):
            with suppress(UsageError):
                return point, coder.encode_within(picture, point, size), ""
    point = find_point(coder, picture, target, {})
    if point == _most(coder):
        encoded = coder.encode(picture, point)
        if len(encoded.data) <= size:
            return (
                point,
                encoded,
                _beyond(coder, point, f"{len(encoded.data)} bytes", f"{size} bytes"),
            )
    return point, coder.encode_within(picture, point, size), ""


def encode_to_psnr(
    open_with: Open,
    preset: Preset,
    picture: Picture,
    wanted: float,
    metrics: Mapping[str, MetricSpec],
) -> Found:
    """The smallest file that comes to ``wanted`` dB; the codec's best, with a warning, where none
    does."""
    from toolkit.codec.base import as_rgb

    coder, least = open_with(preset), _least(open_with(preset))

    def psnr_of(encoded: Encoded) -> float:
        decoded = coder.decode(encoded.data).pixels
        return float(metrics["psnr"].loaded(as_rgb(picture.pixels), as_rgb(decoded)))

    try:
        point = find_point(coder, picture, PointTarget("psnr", wanted), metrics)
    except InputError:
        point = _most(coder)
        encoded = coder.encode(picture, point)
        reached = f"{psnr_of(encoded):.2f} dB"
        return point, encoded, _beyond(coder, point, reached, f"{wanted:g} dB")
    encoded = coder.encode(picture, point)
    if point == least and (reached_db := psnr_of(encoded)) > wanted + 0.5:
        reached = f"{reached_db:.2f} dB"
        return point, encoded, _beyond(coder, point, reached, f"{wanted:g} dB")
    return point, encoded, ""


def _unrefined(preset: Preset) -> Preset:
    return replace(preset, options={**preset.options, STEPS: 0})


def _most(codec: Codec) -> float:
    """The point with the largest files."""
    parameter = codec.spec.rate_parameter
    return parameter.high if parameter.more_bits == "up" else parameter.low


def _least(codec: Codec) -> float:
    """The point with the smallest files."""
    parameter = codec.spec.rate_parameter
    return parameter.low if parameter.more_bits == "up" else parameter.high


def _beyond(codec: Codec, point: float, reached: str, wanted: object) -> str:
    end = f"{codec.spec.rate_parameter.name} {point:g}"
    return f"beyond the range of '{codec.spec.name}': {wanted} wanted, {reached} at {end}, its end"
