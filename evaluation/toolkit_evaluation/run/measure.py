"""One row: code an image, decode the file, measure everything about it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from toolkit.codec.base import Codec, as_rgb, mode_of
from toolkit.codec.search import PointTarget, find_point
from toolkit_evaluation.results.row import METRICS, Row, column, finite
from toolkit_evaluation.run.codec_runner import CodecRunner, InProcess
from toolkit_evaluation.run.kept_files import keep, kept_path
from toolkit_evaluation.run.settings import EvaluationSettings
from toolkit_evaluation.run.task import Task, pixels_sha256

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels
    from toolkit.plugin.specs import MetricSpec

Metrics = Mapping[str, "MetricSpec"]
Values = dict[str, float | None]


def measure(
    codec: Codec,
    pixels: Pixels,
    task: Task,
    metrics: Metrics,
    settings: EvaluationSettings = EvaluationSettings(),
    runner: CodecRunner | None = None,
) -> Row:
    """The row of ``task``; whatever goes wrong with the image ends in an error row.

    Arguments:
        codec: Of the task's preset; searches for the point where the task has a target.
        pixels: The image, uint8 (H, W, C).
        metrics: All metrics by name.
        settings: Which metrics, how often, and where files are kept.
        runner: Codes and decodes; this process where None.
    """
    start = time.perf_counter()
    try:
        if task.target is not None:
            target = PointTarget.parse(task.target)
            task = replace(task, point=find_point(codec, pixels, target, metrics))
        row = _measure(codec, pixels, task, metrics, settings, runner or InProcess(codec))
    except Exception as error:  # a codec may raise anything, and the run goes on
        return task.error_row(error, time.perf_counter() - start)
    return msgspec.structs.replace(row, seconds=time.perf_counter() - start)


def _measure(
    codec: Codec,
    pixels: Pixels,
    task: Task,
    metrics: Metrics,
    settings: EvaluationSettings,
    runner: CodecRunner,
) -> Row:
    assert task.point is not None
    coding = runner.encode(pixels, task.point, settings.repeat)
    decoding = runner.decode(coding.result.data, settings.repeat)
    encoded, decoded = coding.result, decoding.result
    if decoded.pixels.shape != pixels.shape:
        raise ValueError(f"decoded to {decoded.pixels.shape}, the image is {pixels.shape}")
    own = encoded.reconstruction
    return task.row(
        status="ok",
        width=pixels.shape[1],
        height=pixels.shape[0],
        mode=mode_of(pixels),
        bytes=len(encoded.data),
        bpp=8 * len(encoded.data) / (pixels.shape[0] * pixels.shape[1]),
        metrics=_quality(metrics, settings.metrics, pixels, decoded.pixels),
        **_theoretical(codec, pixels, task.point, metrics, settings.metrics),
        upper_share=upper_share(encoded.parts, list(encoded.kl_bits)),
        encode_s=coding.seconds,
        decode_s=decoding.seconds,
        coder_encode_s=encoded.coder_seconds,
        coder_decode_s=decoded.coder_seconds,
        network_encode_s=_rest(coding.seconds, encoded.coder_seconds),
        network_decode_s=_rest(decoding.seconds, decoded.coder_seconds),
        encode_peak_mib=coding.peak_mib,
        decode_peak_mib=decoding.peak_mib,
        separate=settings.separate,
        matches_encoder=None if own is None else bool(np.array_equal(own, decoded.pixels)),
        parts=dict(encoded.parts),
        kl_bits=dict(encoded.kl_bits),
        file_sha256=hashlib.sha256(encoded.data).hexdigest(),
        decoded_sha256=pixels_sha256(decoded.pixels),
        file=_keep(codec, settings, task, encoded.data, decoded.pixels),
    )


def _quality(metrics: Metrics, names: Sequence[str], original: Pixels, decoded: Pixels) -> Values:
    first, second = as_rgb(original), as_rgb(decoded)
    return {column(name): finite(metrics[name].loaded(first, second)) for name in names}


def _theoretical(
    codec: Codec, pixels: Pixels, point: float, metrics: Metrics, names: Sequence[str]
) -> dict[str, Any]:
    """Rate and quality of an ideal coder (thesis, section 4.2); empty where it has no meaning."""
    ideal = codec.theoretical(pixels, point)
    if ideal is None:
        return {}
    known = [name for name in METRICS if name in names]
    quality = _quality(metrics, known, pixels, ideal.pixels)
    return {
        "theoretical_bpp": ideal.bits / (pixels.shape[0] * pixels.shape[1]),
        **{f"theoretical_{name}": value for name, value in quality.items()},
    }


def upper_share(parts: Mapping[str, float], levels: Sequence[str]) -> float | None:
    """Share of all levels but the last in the bits of all levels, side information included.

    Arguments:
        parts: Bits of the file by what they are for: ``LEVEL`` and ``LEVEL.side`` are a level's.
        levels: Names of the levels, top level first.

    Returns:
        0 to 1, or None where there are fewer than two levels.
    """
    bits = [
        sum(bits for name, bits in parts.items() if name == level or name.startswith(f"{level}."))
        for level in levels
    ]
    return sum(bits[:-1]) / sum(bits) if len(bits) > 1 and sum(bits) > 0 else None


def _rest(total: float, coder: float | None) -> float | None:
    return None if coder is None else max(0.0, total - coder)


def _keep(
    codec: Codec, settings: EvaluationSettings, task: Task, data: bytes, decoded: Pixels
) -> str | None:
    """The path of the kept file, None where none is kept."""
    if settings.keep_files is None:
        return None
    path = kept_path(settings.keep_files, task, codec.spec.suffix)
    keep(path, task.image, data, decoded)
    return str(path)
