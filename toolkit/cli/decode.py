"""``toolkit decode``: a coded file to a picture."""

from __future__ import annotations

import enum
import time
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from toolkit.cli import busy, print_json, session
from toolkit.cli.options import JsonFlag, OutputFile, Threads


class Precision(enum.StrEnum):
    """Arithmetic of the decoder's network."""

    float32 = "float32"
    float64 = "float64"
    bfloat16 = "bfloat16"


def decode(
    file: Annotated[Path, typer.Argument(help="The coded file.")],
    output: OutputFile,
    precision: Annotated[
        Precision, typer.Option(help="Arithmetic of the network; any decodes any file.")
    ] = Precision.float32,
    threads: Threads = None,
    weights: Annotated[
        Path | None, typer.Option(help="Weights file, where the file's own aren't installed.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Decode a file of any installed codec; the suffix of OUTPUT chooses the picture format."""
    from PIL import Image

    from toolkit.api import decode_file
    from toolkit.cli.options import set_threads
    from toolkit.codec.base import DecodeSettings
    from toolkit.errors import UsageError
    from toolkit.format.container import read_file
    from toolkit.format.files import write_atomically

    form = Image.registered_extensions().get(output.suffix.lower())
    if form is None:
        raise UsageError(f"{output}: no picture format has the suffix '{output.suffix}'")
    data = read_file(file)
    set_threads(threads)
    settings = DecodeSettings(cast(Any, precision.value), threads, weights)
    start = time.perf_counter()
    with busy(f"decoding {file}"):
        decoded = decode_file(data, settings, session().plugins)
    seconds = time.perf_counter() - start
    pixels = decoded.pixels
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    try:
        write_atomically(output, lambda out: picture.save(out, format=form))
    except (OSError, ValueError) as error:
        raise UsageError(f"{output}: can't be saved as {form} ({error})") from None
    height, width = pixels.shape[:2]
    if json:
        print_json(
            {
                "file": str(output), "width": width, "height": height, "mode": picture.mode,
                "decode_s": seconds, "coder_decode_s": decoded.coder_seconds,
            }
        )  # fmt: skip
    else:
        print(f"{output}: {width}x{height} {picture.mode}")


def register(app: typer.Typer) -> None:
    app.command()(decode)
