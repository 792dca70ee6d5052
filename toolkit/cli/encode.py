"""``toolkit encode``: a picture to a coded file."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli import busy, print_json, session
from toolkit.cli.options import JsonFlag, OptionList, OutputFile, Threads

if TYPE_CHECKING:
    from toolkit.codec.base import Encoded, Pixels
    from toolkit.codec.search import PointTarget
    from toolkit.plugin.loader import Plugins
    from toolkit.plugin.presets import Preset

SLOW = 2.0
"""Seconds from which on the time is told."""


def encode(
    image: Annotated[Path, typer.Argument(help="The picture: PNG, JPEG, WebP, TIFF ...")],
    output: OutputFile,
    codec: Annotated[str, typer.Option(help="A preset; see `toolkit presets`.")] = "pln",
    point: Annotated[
        float | None,
        typer.Option(help="Where on its curve (rate, quality ...); default: mid-sweep."),
    ] = None,
    target_bytes: Annotated[
        int | None, typer.Option(min=1, help="The largest file that has at most so many bytes.")
    ] = None,
    target_bpp: Annotated[
        float | None, typer.Option(min=0, help="The same, in bits per pixel.")
    ] = None,
    effort: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Gradient steps that fit the code to this picture (codec pln): smaller files "
            "at the same quality, slower to make, no slower to decode. As -o effort=N.",
        ),
    ] = None,
    option: OptionList = None,
    threads: Threads = None,
    json: JsonFlag = False,
) -> None:
    """Code a picture."""
    from toolkit.cli.options import presets_with_options, set_threads
    from toolkit.codec.base import as_pixels
    from toolkit.errors import UsageError
    from toolkit.format.files import write_bytes_atomically
    from toolkit.plugin.presets import open_codec

    here = session()
    effort_option = [] if effort is None else [f"effort={effort}"]
    (preset,) = presets_with_options(here.registry, [codec], [*(option or []), *effort_option])
    coder = open_codec(here.plugins, preset)
    if sum(value is not None for value in (point, target_bytes, target_bpp)) > 1:
        raise UsageError("--point, --target-bytes and --target-bpp exclude each other")
    if point is None:
        point = preset.sweep[len(preset.sweep) // 2]
    set_threads(threads)
    pixels = as_pixels(image)
    if target_bpp is not None:
        target_bytes = int(target_bpp * pixels.shape[0] * pixels.shape[1] / 8)
    start = time.perf_counter()
    with busy(f"coding {image}"):
        if target_bytes is None:
            encoded = coder.encode(pixels, point)
        else:
            point, encoded = _within(here.plugins, preset, pixels, target_bytes)
    seconds = time.perf_counter() - start
    write_bytes_atomically(output, encoded.data)
    height, width = pixels.shape[:2]
    bpp = 8 * len(encoded.data) / (height * width)
    if json:
        print_json(
            {
                "file": str(output), "codec": preset.name, "point": point, "width": width,
                "height": height, "bytes": len(encoded.data), "bpp": bpp, "parts": encoded.parts,
                "kl_bits": encoded.kl_bits, "encode_s": seconds,
                "coder_encode_s": encoded.coder_seconds,
            }
        )  # fmt: skip
    else:
        took = f", {seconds:.0f} s" if seconds > SLOW else ""
        print(f"{output}: {width}x{height}, {len(encoded.data)} bytes, {bpp:.4f} bpp{took}")


def _within(
    plugins: Plugins, preset: Preset, pixels: Pixels, target_bytes: int
) -> tuple[float, Encoded]:
    """The point at which the file comes to ``target_bytes``, and that file.

    The point is looked for without effort, which takes a dozen files; where the codec can't
    fill the wanted size from there, again with it. Raises InputError where no file is so small.
    """
    from toolkit.codec.search import find_point
    from toolkit.errors import UsageError
    from toolkit.plugin.presets import open_codec

    coder = open_codec(plugins, preset)
    target = _at_most(target_bytes, pixels)
    if preset.options.get("effort"):
        quick = open_codec(plugins, replace(preset, options={**preset.options, "effort": 0}))
        point = find_point(quick, pixels, target, {})
        with suppress(UsageError):
            return point, coder.encode_within(pixels, point, target_bytes)
    point = find_point(coder, pixels, target, {})
    return point, coder.encode_within(pixels, point, target_bytes)


def _at_most(size: int, pixels: Pixels) -> PointTarget:
    from toolkit.codec.search import PointTarget

    return PointTarget("bpp", 8 * size / (pixels.shape[0] * pixels.shape[1]))


def register(app: typer.Typer) -> None:
    app.command()(encode)
