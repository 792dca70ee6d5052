"""``toolkit decode``: a coded file to a picture."""

from __future__ import annotations

import enum
import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from toolkit.cli import busy, print_json, say, session, tell
from toolkit.cli.options import Force, JsonFlag, MaxMemory, MaxPixels, OutputFile, Threads
from toolkit.cli.streams import (
    STANDARD,
    check_output_file,
    input_name,
    named_errors,
    output_name,
    read_input,
    write_output,
)
from toolkit.errors import ResourceError, UsageError

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {}, "TIFF": {}, "BMP": {}, "PPM": {}, "TGA": {}, "JPEG2000": {}, "PCX": {}, "SGI": {},
    "DIB": {}, "WEBP": {"lossless": True, "exact": True},
}  # fmt: skip
"""Formats that keep every pixel, and what their writers need to be told for it."""


class Precision(enum.StrEnum):
    """Arithmetic of the decoder's network."""

    float32 = "float32"
    float64 = "float64"
    bfloat16 = "bfloat16"


def decode(
    file: Annotated[Path, typer.Argument(help="The coded file; - for standard input.")],
    output: OutputFile,
    precision: Annotated[
        Precision, typer.Option(help="Arithmetic of the network; any decodes any file.")
    ] = Precision.float32,
    threads: Threads = None,
    weights: Annotated[
        Path | None, typer.Option(help="Weights file, where the file's own aren't installed.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(help="Picture format, as a suffix: png, tif ...; default: OUTPUT's, or png."),
    ] = None,
    force: Force = False,
    max_pixels: MaxPixels = None,
    max_memory: MaxMemory = None,
    json: JsonFlag = False,
) -> None:
    """Decode a file of any installed codec; the suffix of OUTPUT chooses the picture format."""
    from toolkit.api import decode_file
    from toolkit.cli.options import set_limits, set_threads
    from toolkit.codec.base import DecodeSettings

    form = _picture_format(output, format)
    check_output_file(output, force, file, *([weights] if weights else []))
    set_limits(max_pixels, max_memory)
    name = input_name(file)
    with named_errors(name):
        data = read_input(file)
    set_threads(threads)
    settings = DecodeSettings(cast(Any, precision.value), threads, weights)
    start = time.perf_counter()
    with named_errors(name), busy(f"decoding {name}"):
        decoded = decode_file(data, settings, session().plugins)
    seconds = time.perf_counter() - start
    height, width, channels = decoded.pixels.shape
    write_output(output, _picture_bytes(decoded.pixels, form, output_name(output)), force)
    if form not in LOSSLESS:
        say(f"{output_name(output)}: {form} as saved here is lossy; png is not")
    mode = MODES[channels]
    aside = output == STANDARD
    if json:
        print_json(
            {
                "file": output_name(output), "width": width, "height": height, "mode": mode,
                "decode_s": seconds, "coder_decode_s": decoded.coder_seconds,
            },
            aside,
        )  # fmt: skip
    else:
        tell(f"{output_name(output)}: {width}x{height} {mode}", aside)


def _picture_format(output: Path, wanted: str | None) -> str:
    """Pillow's name of the format. Raises UsageError."""
    from PIL import Image

    suffix = output.suffix if wanted is None else f".{wanted.lstrip('.')}"
    if output == STANDARD and wanted is None:
        suffix = ".png"
    form = Image.registered_extensions().get(suffix.lower())
    if form is None or form not in Image.SAVE:
        raise UsageError(f"{output_name(output)}: no picture format has the suffix '{suffix}'")
    return form


def _picture_bytes(pixels: Pixels, form: str, name: str) -> bytes:
    """The picture as a file. Raises UsageError for a format that can't hold it."""
    from PIL import Image

    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    content = io.BytesIO()
    try:
        picture.save(content, form, **LOSSLESS.get(form, {}))
    except MemoryError:
        raise ResourceError(f"{name}: out of memory") from None
    except Exception as error:  # a format's writer may raise anything
        raise UsageError(f"{name}: can't be saved as {form} ({error})") from None
    return content.getvalue()


def register(app: typer.Typer) -> None:
    app.command()(decode)
