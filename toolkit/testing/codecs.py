"""Conformance kit of codecs."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.codec.base import Codec, mode_of
from toolkit.errors import InputError, UsageError
from toolkit.format.container import BadFile, is_container, read_container
from toolkit.options import parse_options
from toolkit.plugin.specs import CodecSpec
from toolkit.testing.another_process import in_another_process
from toolkit.testing.codec_subject import CodecSubject, check_pixels, label_of
from toolkit.testing.damage import damaged_files
from toolkit.testing.streams import within
from toolkit.testing.subject import ConformanceError, described

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.codec.base import Pixels
    from toolkit.plugin.loader import Plugins

SIZES = ((1, 1), (17, 31), (64, 64))
"""Height and width of the pictures for the round trip."""
DAMAGE_SECONDS = 30.0
"""Longest that decoding a damaged file may take."""


@dataclass
class CodecReport:
    """What was found about a codec that passed."""

    codec: str
    files: int = 0
    """Files that were coded and decoded."""
    refused_modes: tuple[str, ...] = ()
    """Of L and RGBA: those that the codec has no files for."""
    damaged: int = 0
    refused: int = 0
    """Of the damaged files: those that raised a named error."""
    encode_s: float = 0.0
    decode_s: float = 0.0
    """Of the last picture of 64x64 pixels."""
    checks: list[str] = field(default_factory=list)
    """Checks passed, in order."""

    def __str__(self) -> str:
        modes = f", no {' nor '.join(self.refused_modes)}" if self.refused_modes else ""
        return (
            f"{self.codec}: {self.files} files{modes}; {', '.join(self.checks)}; encode "
            f"{self.encode_s:.3f} s, decode {self.decode_s:.3f} s, {self.refused} of "
            f"{self.damaged} damaged files refused"
        )


def check_codec(
    codec: str | CodecSpec | Codec,
    options: Mapping[str, Any] | None = None,
    *,
    plugins: Plugins | None = None,
    trained: bool = True,
    damaged: int = 60,
    seed: int = 0,
) -> CodecReport:
    """Put a codec through all checks.

    Arguments:
        codec: A preset's or codec's name, a descriptor, or the codec itself.
        options: Of a codec that is given by name (dotted names) or by descriptor.
        plugins: Where a name is looked up; all that are installed by default.
        trained: Whether its weights are, so that more bits must show.
        damaged: How many damaged files are tried.
        seed: Of pictures and damage.

    Raises ConformanceError that says which check failed, on what, and what was seen.
    """
    subject = CodecSubject(_opened(codec, options or {}, plugins), seed)
    report = CodecReport(subject.codec.spec.name)
    _check_round_trips(subject, report)
    _check_recognised(subject, report)
    _check_repeatable(subject, report)
    _check_threads(subject, report)
    _check_points(subject, report)
    if trained:
        _check_direction(subject, report)
    _check_size_limit(subject, report)
    _check_damage(subject, report, damaged)
    _check_identity(subject, report)
    _check_another_process(subject, report)
    return report


def _opened(
    codec: str | CodecSpec | Codec, options: Mapping[str, Any], plugins: Plugins | None
) -> Codec:
    if isinstance(codec, Codec):
        return codec
    if isinstance(codec, str):
        from toolkit.api import load

        return load(codec, options, plugins=plugins)
    cls = codec.loaded
    found: Codec = cls(codec, parse_options(cls.options_class, options, codec.name), plugins)
    return found


def _check_round_trips(subject: CodecSubject, report: CodecReport) -> None:
    """Every size, mode and end of the curve; what the encoder shows is what the decoder shows."""
    middle = subject.points[1]
    cases = [(size, channels, middle) for size in SIZES for channels in (3, 1, 4)]
    cases += [((64, 64), 3, point) for point in (subject.points[0], subject.points[2])]
    for (height, width), channels, point in cases:
        pixels = subject.picture(height, width, channels)
        start = time.perf_counter()
        try:
            encoded = subject.encode(pixels, point)
        except InputError as error:
            mode = mode_of(pixels)
            if mode == "RGB":
                raise ConformanceError(
                    "round trip", f"{label_of(pixels)}: encode refuses it: {described(error)}"
                ) from error
            report.refused_modes = tuple(dict.fromkeys((*report.refused_modes, mode)))
            continue
        report.encode_s = time.perf_counter() - start
        start = time.perf_counter()
        shown = subject.decode(encoded.data, pixels)
        report.decode_s = time.perf_counter() - start
        reconstruction = encoded.reconstruction
        if reconstruction is not None and not np.array_equal(reconstruction, shown):
            raise ConformanceError(
                "reconstruction",
                f"{label_of(pixels)}: the decoder shows other pixels than the encoder says",
            )
        report.files += 1
    report.checks.append("round trips")


def _check_recognised(subject: CodecSubject, report: CodecReport) -> None:
    """A file tells by its first bytes, or its header, which codec it is of."""
    spec, (_, encoded) = subject.codec.spec, subject.coded()
    data = encoded.data
    if is_container(data):
        if read_container(data).codec != spec.name:
            raise ConformanceError(
                "recognition", f"its files name the codec '{read_container(data).codec}'"
            )
    elif not any(data[at : at + len(magic)] == magic for at, magic in spec.magic):
        raise ConformanceError(
            "recognition",
            f"the file begins with {data[:8]!r}, which no 'magic' of the descriptor says: nothing "
            "could tell which codec decodes it",
        )
    report.checks.append("recognition")


def _check_repeatable(subject: CodecSubject, report: CodecReport) -> None:
    """The same bytes and pixels, whatever was coded before."""
    pixels, encoded = subject.coded()
    used = subject.make()
    subject.encode(subject.picture(17, 31), subject.points[2], used)
    if subject.encode(pixels, subject.points[1], used).data != encoded.data:
        raise ConformanceError(
            "repeatability", "a second encoding gives other bytes than the first"
        )
    shown = subject.decode(encoded.data, pixels)
    used.decode(subject.encode(subject.picture(17, 31), subject.points[1]).data)
    if not np.array_equal(used.decode(encoded.data).pixels, shown):
        raise ConformanceError(
            "repeatability", "a second decoding gives other pixels than the first"
        )
    report.checks.append("repeatability")


def _check_threads(subject: CodecSubject, report: CodecReport) -> None:
    """The same bytes and pixels from several threads at once, of one codec."""
    point, shared = subject.points[1], subject.make()
    pictures = [subject.picture(*size) for size in ((64, 64), (40, 56), (17, 31), (64, 64))]
    files = [subject.encode(pixels, point).data for pixels in pictures]
    shown = [subject.decode(data, pixels) for data, pixels in zip(files, pictures, strict=True)]

    def work(number: int) -> tuple[bytes, Pixels]:
        data = subject.encode(pictures[number], point, shared).data
        return data, shared.decode(files[number]).pixels

    with ThreadPoolExecutor(len(pictures)) as pool:
        try:
            found = list(pool.map(work, range(len(pictures))))
        except Exception as error:
            raise ConformanceError(
                "threads", f"several that share the codec: {described(error)}"
            ) from error
    for (data, again), file, pixels in zip(found, files, shown, strict=True):
        if data != file or not np.array_equal(again, pixels):
            raise ConformanceError(
                "threads", "other bytes or pixels where several threads share the codec"
            )
    report.checks.append("threads")


def _check_points(subject: CodecSubject, report: CodecReport) -> None:
    """Points that the descriptor rules out are refused."""
    parameter, pixels = subject.codec.spec.rate_parameter, subject.picture(17, 31)
    beyond = [parameter.low - 1, parameter.high + 1, math.nan]
    if parameter.integer:
        beyond.append(parameter.low + 0.5)
    for point in beyond:
        try:
            subject.make().encode(pixels, point)
        except UsageError:
            continue
        except Exception as error:
            raise ConformanceError(
                "points",
                f"{parameter.name} {point:g}: encode raised {described(error)}, not a UsageError",
            ) from error
        raise ConformanceError(
            "points",
            f"{parameter.name} {point:g} is coded, though the descriptor says {parameter.low:g} to "
            f"{parameter.high:g}{', whole' if parameter.integer else ''}",
        )
    report.checks.append("points")


def _check_direction(subject: CodecSubject, report: CodecReport) -> None:
    """The end of the curve that has more bits has larger files that are nearer the original."""
    parameter, pixels = subject.codec.spec.rate_parameter, subject.picture()
    low, _, high = subject.points
    few, many = (low, high) if parameter.more_bits == "up" else (high, low)
    files = [subject.encode(pixels, point).data for point in (few, many)]
    errors = [
        float(np.mean(np.square(subject.decode(data, pixels).astype(float) - pixels)))
        for data in files
    ]
    if len(files[0]) > len(files[1]) or errors[0] < errors[1]:
        raise ConformanceError(
            "direction",
            f"{parameter.name} {few:g} should have fewer bits than {many:g}, but files of "
            f"{len(files[0])} and {len(files[1])} bytes have squared errors of {errors[0]:.1f} and "
            f"{errors[1]:.1f}",
        )
    report.checks.append("direction")


def _check_size_limit(subject: CodecSubject, report: CodecReport) -> None:
    """``encode_within`` keeps to the bytes it gets, or says that it can't."""
    pixels, encoded = subject.coded()
    room = len(encoded.data) + 16
    within_room = subject.make().encode_within(pixels, subject.points[1], room)
    if len(within_room.data) > room:
        raise ConformanceError(
            "size limit", f"a file of {len(within_room.data)} bytes where {room} were allowed"
        )
    subject.decode(within_room.data, pixels)
    try:
        small = subject.make().encode_within(pixels, subject.points[1], 1)
    except UsageError:
        report.checks.append("size limit")
        return
    raise ConformanceError("size limit", f"a file of {len(small.data)} bytes where 1 was allowed")


def _check_damage(subject: CodecSubject, report: CodecReport, count: int) -> None:
    """A damaged file is a picture or a named error, in bounded time."""
    pixels, encoded = subject.coded()
    for label, bad in damaged_files(encoded.data, count, subject.seed):
        report.damaged += 1

        def decode(bad: bytes = bad) -> Any:
            return subject.make().decode(bad).pixels

        try:
            shown = within(DAMAGE_SECONDS, decode, f"damaged file ({label})")
        except BadFile:
            report.refused += 1
            continue
        except ConformanceError:
            raise
        except Exception as error:
            raise ConformanceError(
                "damaged files",
                f"{label}: decode raised {described(error)}, which isn't a BadFile such as "
                "BadStream",
            ) from error
        if not bad:
            raise ConformanceError("damaged files", "an empty file is decoded to a picture")
        check_pixels(shown, "damaged files", label)
        if is_container(bad) and shown.shape != pixels.shape:
            raise ConformanceError(
                "damaged files", f"{label}: decodes to shape {shown.shape}, not {pixels.shape}"
            )
    report.checks.append("damaged files")


def _check_identity(subject: CodecSubject, report: CodecReport) -> None:
    """What results depend on is plain JSON, and always the same."""
    identity = subject.make().identity()
    try:
        plain = json.loads(json.dumps(identity))
    except (TypeError, ValueError) as error:
        raise ConformanceError("identity", f"it is no plain JSON: {described(error)}") from error
    if plain != json.loads(json.dumps(subject.make().identity())):
        raise ConformanceError("identity", "two codecs made alike have different identities")
    report.checks.append("identity")


def _check_another_process(subject: CodecSubject, report: CodecReport) -> None:
    """A fresh interpreter decodes the very pixels."""
    pixels, encoded = subject.coded()
    shown = subject.decode(encoded.data, pixels)
    codec, files = subject.codec, subject.codec.plugins.files
    work: Callable[..., Pixels] = _decode_there
    there = in_another_process(
        work, type(codec), codec.spec, codec.options, files, encoded.data, files=files
    )
    if not np.array_equal(there, shown):
        raise ConformanceError("another process", "it decodes the file to other pixels")
    report.checks.append("another process")


def _decode_there(
    cls: type[Codec], spec: CodecSpec, options: Any, files: tuple[Path, ...], data: bytes
) -> Pixels:
    from toolkit.plugin.loader import load_plugins

    return cls(spec, options, load_plugins(files)).decode(data).pixels
