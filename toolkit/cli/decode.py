"""``toolkit decode``: a coded file to a picture."""

from __future__ import annotations

import enum
import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from toolkit.cli import say, session
from toolkit.cli.options import (
    DeviceOption,
    Force,
    JsonFlag,
    MaxMemory,
    MaxPixels,
    OutputFolder,
    Strip,
    Threads,
    Workers,
)
from toolkit.cli.streams import (
    STANDARD,
    check_output_file,
    input_name,
    named_errors,
    output_name,
    read_input,
    write_output,
)
from toolkit.device import Device, resolve_device
from toolkit.errors import ResourceError, UsageError

if TYPE_CHECKING:
    from toolkit.cli import Session
    from toolkit.cli.batch import Job
    from toolkit.codec.base import DecodeSettings, Metadata, Pixels

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {}, "TIFF": {}, "BMP": {}, "PPM": {}, "TGA": {}, "JPEG2000": {}, "PCX": {}, "SGI": {},
    "DIB": {}, "WEBP": {"lossless": True, "exact": True},
}  # fmt: skip
"""Formats that keep every pixel, and what their writers need to be told for it."""
CARRY = {
    "PNG": frozenset({"exif", "icc", "resolution"}),
    "TIFF": frozenset({"exif", "icc", "resolution"}),
    "JPEG": frozenset({"exif", "icc", "resolution"}),
    "WEBP": frozenset({"exif", "icc"}),
    "AVIF": frozenset({"exif", "icc"}),
    "BMP": frozenset({"resolution"}),
}
"""What of a picture's metadata the writers of formats take."""


class Precision(enum.StrEnum):
    """Arithmetic of the decoder's network."""

    float32 = "float32"
    float64 = "float64"
    bfloat16 = "bfloat16"


def decode(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE... [OUTPUT]",
            readable=False,  # what can't be read is told below, as every bad input
            help="Coded files, folders or patterns; - for standard input or output. Default for "
            "OUTPUT: FILE with the suffix .png.",
        ),
    ],
    precision: Annotated[
        Precision, typer.Option(help="Arithmetic of the network; any decodes any file.")
    ] = Precision.float32,
    device: DeviceOption = Device.cpu,
    threads: Threads = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE|URL", help="Weights, where the file's own aren't installed."),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch weights that aren't here; else none are.")
    ] = False,
    levels: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Show what the first N levels of a ladder say, the rest at their priors' means.",
        ),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Decode a file that was cut short as far as it goes."),
    ] = False,
    format: Annotated[
        str | None,
        typer.Option(help="Picture format, as a suffix: png, tif ...; default: OUTPUT's, or png."),
    ] = None,
    strip: Strip = False,
    force: Force = False,
    out: OutputFolder = None,
    workers: Workers = 1,
    json: JsonFlag = False,
    max_pixels: MaxPixels = None,
    max_memory: MaxMemory = None,
) -> None:
    """Decode files of any installed codec; the suffix of OUTPUT chooses the picture format."""
    from toolkit.cli.batch import plan, run_all, run_one
    from toolkit.cli.options import set_limits
    from toolkit.codec.base import DecodeSettings

    set_limits(max_pixels, max_memory)
    here = session()
    settings = DecodeSettings(
        cast(Any, precision.value),
        threads,
        weights,
        download,
        levels=levels,
        partial=partial,
        device=resolve_device(device),
    )
    work = Decoding(settings, format, force, strip)
    coded = {".qf", *(spec.suffix for spec in here.plugins.codecs.values())}
    jobs = plan(files, out, f".{(format or 'png').lstrip('.')}", coded)
    form = _picture_format(jobs[0].target, format)
    if form not in LOSSLESS:
        say(f"{output_name(jobs[0].target)}: {form} as saved here is lossy; png is not")
    if out is None:
        run_one(work, jobs, "decoding", threads, json)
    else:
        run_all(work, jobs, workers, threads, json)


@dataclass(frozen=True)
class Decoding:
    """How files are decoded; called for each."""

    settings: DecodeSettings
    format: str | None
    force: bool
    strip: bool

    def __call__(self, job: Job, here: Session) -> dict[str, Any]:
        """Decode a file. Raises ToolkitErrors."""
        from toolkit.api import decode_file
        from toolkit.codec.metadata import NO_METADATA, upright

        form = _picture_format(job.target, self.format)
        weights = [Path(self.settings.weights)] if self.settings.weights else []
        check_output_file(job.target, self.force, job.source, *weights)
        name = input_name(job.source)
        with named_errors(name):
            data = read_input(job.source)
            start = time.perf_counter()
            decoded = decode_file(data, self.settings, here.plugins)
            seconds = time.perf_counter() - start
        pixels, metadata = upright(decoded.pixels, decoded.metadata)
        height, width, channels = pixels.shape
        metadata = NO_METADATA if self.strip else metadata.only(CARRY.get(form, frozenset()))
        shown = output_name(job.target)
        try:
            picture = _picture_bytes(pixels, metadata, form, shown)
        except UsageError:
            if not metadata:
                raise
            picture = _picture_bytes(pixels, NO_METADATA, form, shown)
            say(f"{shown}: {form} can't hold {metadata.words()}: left out")
        write_output(job.target, picture, self.force)
        return {
            "file": output_name(job.target), "width": width, "height": height,
            "mode": MODES[channels], "decode_s": seconds,
            "coder_decode_s": decoded.coder_seconds, "levels": decoded.levels,
        }  # fmt: skip

    def line(self, told: dict[str, Any]) -> str:
        """What a person is told of a file."""
        shown, of = told["levels"] or (0, 0)
        part = f", {shown} of {of} levels" if shown < of else ""
        return f"{told['file']}: {told['width']}x{told['height']} {told['mode']}{part}"


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


def _picture_bytes(pixels: Pixels, metadata: Metadata, form: str, name: str) -> bytes:
    """The picture as a file. Raises UsageError for a format that can't hold it."""
    from PIL import Image

    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    content = io.BytesIO()
    try:
        picture.save(content, form, **LOSSLESS.get(form, {}), **metadata.saved())
    except MemoryError:
        raise ResourceError(f"{name}: out of memory") from None
    except Exception as error:  # a format's writer may raise anything
        raise UsageError(f"{name}: can't be saved as {form} ({error})") from None
    return content.getvalue()


def register(app: typer.Typer) -> None:
    app.command()(decode)
