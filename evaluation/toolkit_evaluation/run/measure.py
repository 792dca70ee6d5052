"""One row: code an image, decode the file, measure everything about it."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.codec.base import Codec, as_rgb, mode_of
from toolkit_evaluation.run.codec_runner import Hands, Here, told
from toolkit_evaluation.run.target import Target, find_point

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels
    from toolkit.plugin.specs import MetricSpec

Row = dict[str, Any]

FIGURES = (
    "bytes",
    "bpp",
    "psnr",
    "ms_ssim",
    "theoretical_bpp",
    "theoretical_psnr",
    "theoretical_ms_ssim",
    "level2_share",
    "encode_s",
    "decode_s",
    "coder_encode_s",
    "coder_decode_s",
    "network_encode_s",
    "network_decode_s",
    "encode_peak_mib",
    "decode_peak_mib",
)
"""Numbers of a row that a mean is taken of; metrics beyond the first two come on top."""


@dataclass(frozen=True)
class Task:
    """What a row is about.

    ``point`` is None for an image that couldn't even be read, and where it is to be found:
    then ``target`` says what it should come to.
    """

    key: str
    image: str
    pixels_sha256: str
    codec: str
    preset_identity: str
    codec_identity: str
    point: float | None
    target: str | None = None

    def row(self) -> Row:
        """The fields that a row has whatever becomes of it."""
        return {
            "key": self.key,
            "image": self.image,
            "codec": self.codec,
            "point": self.point,
            "target": self.target,
            "pixels_sha256": self.pixels_sha256,
            "preset_identity": self.preset_identity,
            "codec_identity": self.codec_identity,
        }


def task_of(row: Row) -> Task:
    """The task that a row is the result of."""
    values: dict[str, Any] = {field.name: row.get(field.name) for field in fields(Task)}
    return Task(**values)


@dataclass(frozen=True)
class Settings:
    """How rows are made; none of it changes what is measured but times and memory."""

    metrics: tuple[str, ...] = ("psnr", "ms-ssim")
    keep: Path | None = None
    """Folder for coded files and reconstructions."""
    repeat: int = 1
    """Times to code and decode; the fastest of each counts."""
    separate: bool = False
    """Whether coding and decoding have a process each."""


def pixels_sha256(pixels: Pixels) -> str:
    """SHA-256 of an image's bytes, its shape not included; as the Kodak table has it."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def key_of(
    pixels: str, shape: tuple[int, ...], preset: str, point: float | str | None, codec: str
) -> str:
    """What a result depends on, hashed: image, options, point, weights and libraries."""
    text = json.dumps([pixels, list(shape), preset, point, codec])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def error_row(task: Task, error: BaseException | str, seconds: float = 0.0) -> Row:
    """A row that says why there is no result."""
    row: Row = {**task.row(), "status": "error", "error": told(error)}
    return {**row, **dict.fromkeys(FIGURES), "file": None, "seconds": seconds}


def measure(
    codec: Codec,
    pixels: Pixels,
    task: Task,
    metrics: Mapping[str, MetricSpec],
    settings: Settings = Settings(),
    hands: Hands | None = None,
) -> Row:
    """The row of ``task``; whatever goes wrong with the image ends in an error row.

    ``hands`` code and decode; this process where None.
    """
    start = time.perf_counter()
    try:
        if task.target is not None:
            target = Target.parse(task.target)
            task = replace(task, point=find_point(codec, pixels, target, metrics))
        row = _measure(codec, pixels, task, metrics, settings, hands or Here(codec))
    except Exception as error:  # a codec may raise anything, and the run goes on
        return error_row(task, error, time.perf_counter() - start)
    return {**row, "seconds": time.perf_counter() - start}


def _measure(
    codec: Codec,
    pixels: Pixels,
    task: Task,
    metrics: Mapping[str, MetricSpec],
    settings: Settings,
    hands: Hands,
) -> Row:
    assert task.point is not None
    coding = hands.encode(pixels, task.point, settings.repeat)
    decoding = hands.decode(coding.result.data, settings.repeat)
    encoded, decoded = coding.result, decoding.result
    if decoded.pixels.shape != pixels.shape:
        raise ValueError(f"decoded to {decoded.pixels.shape}, the image is {pixels.shape}")
    count = pixels.shape[0] * pixels.shape[1]
    own = encoded.reconstruction
    row: Row = {
        **task.row(),
        "status": "ok",
        "error": None,
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "mode": mode_of(pixels),
        "bytes": len(encoded.data),
        "bpp": 8 * len(encoded.data) / count,
        **_quality(metrics, settings.metrics, pixels, decoded.pixels),
        **_theoretical(codec, pixels, task.point, metrics, settings.metrics),
        "level2_share": level2_share(encoded.parts),
        "encode_s": coding.seconds,
        "decode_s": decoding.seconds,
        "coder_encode_s": encoded.coder_seconds,
        "coder_decode_s": decoded.coder_seconds,
        "network_encode_s": _rest(coding.seconds, encoded.coder_seconds),
        "network_decode_s": _rest(decoding.seconds, decoded.coder_seconds),
        "encode_peak_mib": coding.peak_mib,
        "decode_peak_mib": decoding.peak_mib,
        "separate": settings.separate,
        "matches_encoder": None if own is None else bool(np.array_equal(own, decoded.pixels)),
        "parts": dict(encoded.parts),
        "kl_bits": dict(encoded.kl_bits),
        "file_sha256": hashlib.sha256(encoded.data).hexdigest(),
        "decoded_sha256": pixels_sha256(decoded.pixels),
    }
    row["file"] = _keep(codec, settings.keep, task, encoded.data, decoded.pixels)
    return row


def column(metric: str) -> str:
    """Name of a metric in rows: ``ms-ssim`` is ``ms_ssim``."""
    return metric.replace("-", "_")


def _quality(
    metrics: Mapping[str, MetricSpec], names: tuple[str, ...], original: Pixels, decoded: Pixels
) -> Row:
    first, second = as_rgb(original), as_rgb(decoded)
    return {column(name): finite(metrics[name].loaded(first, second)) for name in names}


def _theoretical(
    codec: Codec,
    pixels: Pixels,
    point: float,
    metrics: Mapping[str, MetricSpec],
    names: tuple[str, ...],
) -> Row:
    """Rate and quality of an ideal coder (thesis, section 4.2); nulls where it has no meaning."""
    ideal = codec.theoretical(pixels, point)
    wanted = ("psnr", "ms-ssim")
    if ideal is None:
        nothing = dict.fromkeys(f"theoretical_{column(name)}" for name in wanted)
        return {"theoretical_bpp": None, **nothing}
    known = tuple(name for name in wanted if name in names)
    quality = _quality(metrics, known, pixels, ideal.pixels)
    return {
        "theoretical_bpp": ideal.bits / (pixels.shape[0] * pixels.shape[1]),
        **{f"theoretical_{column(name)}": quality.get(column(name)) for name in wanted},
    }


def finite(value: float) -> float | None:
    """The number, or None for NaN and infinities, which JSON can't say."""
    value = float(value)
    return value if math.isfinite(value) else None


def level2_share(parts: Mapping[str, float]) -> float | None:
    """Share of level 2 in the bits of all levels, side information included; None without
    levels."""
    levels = sum(bits for name, bits in parts.items() if name.startswith("level"))
    second = sum(bits for name, bits in parts.items() if name.startswith("level2"))
    return second / levels if levels > 0 else None


def _rest(total: float, coder: float | None) -> float | None:
    return None if coder is None else max(0.0, total - coder)


def kept_path(folder: Path, task: Task, suffix: str) -> Path:
    """Where ``--keep-files`` puts a coded file; the reconstruction lies beside it as PNG."""
    word = f"{task.point:g}" if task.target is None else Target.parse(task.target).word
    return folder / task.codec / word / f"{task.image}{suffix}"


def _keep(codec: Codec, folder: Path | None, task: Task, data: bytes, pixels: Pixels) -> str | None:
    if folder is None:
        return None
    from PIL import Image

    from toolkit.format.files import write_atomically, write_bytes_atomically

    path = kept_path(folder, task, codec.spec.suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(path, data)
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    shown = path.with_name(f"{task.image}.png")
    if shown == path:  # a codec whose files are PNGs
        shown = path.with_name(f"{task.image}.decoded.png")
    write_atomically(shown, lambda file: picture.save(file, "PNG", compress_level=1))
    return str(path)
