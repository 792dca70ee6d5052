"""``toolkit encode``: a picture to a coded file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli import print_json, session
from toolkit.cli.options import JsonFlag, OptionList, OutputFile, Threads


def encode(
    image: Annotated[Path, typer.Argument(help="The picture: PNG, JPEG, WebP, TIFF ...")],
    output: OutputFile,
    codec: Annotated[str, typer.Option(help="A preset; see `toolkit presets`.")] = "pln",
    point: Annotated[
        float | None,
        typer.Option(help="Where on its curve (rate, quality ...); default: mid-sweep."),
    ] = None,
    option: OptionList = None,
    threads: Threads = None,
    json: JsonFlag = False,
) -> None:
    """Code a picture."""
    from toolkit.cli.options import presets_with_options, set_threads
    from toolkit.codec import as_pixels
    from toolkit.files import write_bytes_atomically
    from toolkit.registry import open_codec

    here = session()
    (preset,) = presets_with_options(here.registry, [codec], option)
    coder = open_codec(here.plugins, preset)
    if point is None:
        point = preset.sweep[len(preset.sweep) // 2]
    set_threads(threads)
    pixels = as_pixels(image)
    start = time.perf_counter()
    encoded = coder.encode(pixels, point)
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
        print(f"{output}: {width}x{height}, {len(encoded.data)} bytes, {bpp:.4f} bpp")


def register(app: typer.Typer) -> None:
    app.command()(encode)
