"""``toolkit encode``: a picture to a coded file."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from toolkit.cli import say, session
from toolkit.cli.options import (
    Deterministic,
    DeviceOption,
    Force,
    JsonFlag,
    MaxMemory,
    MaxPixels,
    OptionList,
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

if TYPE_CHECKING:
    from toolkit.cli import Session
    from toolkit.cli.batch import Job
    from toolkit.codec.base import Encoded, Picture, Pixels
    from toolkit.plugin.loader import Plugins
    from toolkit.plugin.presets import Preset

SLOW = 2.0
"""Seconds from which on the time is told."""
LARGE = 0.2
"""Share of metadata in a file from which on it is told."""
WORDS = {"exif": "EXIF", "icc": "colour profile", "resolution": "resolution"}


def encode(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE... [OUTPUT]",
            readable=False,  # what can't be read is told below, as every bad input
            help="Pictures (PNG, JPEG, WebP, TIFF ...), folders or patterns; - for standard "
            "input or output. Default for OUTPUT: IMAGE with the codec's suffix; one with the "
            "suffix of a format (.jpg, .avif ...) chooses the codec where --codec doesn't.",
        ),
    ],
    codec: Annotated[
        str | None,
        typer.Option(
            help="A preset; see `toolkit presets`. Default: by OUTPUT's suffix, or the registry's."
        ),
    ] = None,
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
    target_psnr: Annotated[
        float | None,
        typer.Option(min=0, help="The smallest file that comes to so many dB (RGB)."),
    ] = None,
    refinement_steps: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Gradient steps that fit the code to this picture: smaller files at the same "
            "quality, slower to make, no slower to decode. As -o refinement_steps=N.",
        ),
    ] = None,
    option: OptionList = None,
    device: DeviceOption = Device.cpu,
    threads: Threads = None,
    out: OutputFolder = None,
    workers: Workers = 1,
    force: Force = False,
    deterministic: Deterministic = False,
    strip: Strip = False,
    depth: Annotated[
        int | None,
        typer.Option(min=8, max=8, help="8: round pictures of 16 bits a sample, without dither."),
    ] = None,
    max_pixels: MaxPixels = None,
    max_memory: MaxMemory = None,
    json: JsonFlag = False,
) -> None:
    """Code a picture, or many."""
    from toolkit.cli.batch import plan, run_all, run_one
    from toolkit.cli.formats import check_suffix, codec_of_suffix
    from toolkit.cli.options import presets_with_options, set_limits
    from toolkit.errors import UsageError
    from toolkit.plugin.presets import open_codec

    set_limits(max_pixels, max_memory)
    here = session()
    steps = [] if refinement_steps is None else [f"refinement_steps={refinement_steps}"]
    output = images[1] if out is None and len(images) == 2 else None
    name = codec or codec_of_suffix(output, here.plugins.codecs) or here.registry.default
    (preset,) = presets_with_options(here.registry, [name], [*(option or []), *steps])
    spec = open_codec(here.plugins, preset).spec
    check_suffix(output, spec, here.plugins.codecs)
    wishes = (point, target_bytes, target_bpp, target_psnr)
    if sum(value is not None for value in wishes) > 1:
        raise UsageError(
            "--point, --target-bytes, --target-bpp and --target-psnr exclude each other"
        )
    if target_psnr == 0 or target_bpp == 0:
        raise UsageError("a target must be above 0")
    if point is None:
        point = preset.sweep[len(preset.sweep) // 2]
    wanted = Wanted(point, target_bytes, target_bpp, target_psnr)
    work = Encoding(preset, wanted, force, resolve_device(device), deterministic, strip, depth)
    jobs = plan(images, out, spec.suffix, picture_suffixes())
    if out is None:
        run_one(work, jobs, "coding", threads, json)
    else:
        run_all(work, jobs, workers, threads, json)


def picture_suffixes() -> set[str]:
    """Suffixes of the pictures that are taken from a folder."""
    from PIL import Image

    return {suffix for suffix, form in Image.registered_extensions().items() if form in Image.OPEN}


@dataclass(frozen=True)
class Wanted:
    """A point of the codec's curve, or what the file must come to."""

    point: float
    size: int | None
    """Bytes."""
    bpp: float | None
    psnr: float | None

    def bytes_of(self, pixels: Pixels) -> int | None:
        """The largest file for this picture; None where its size is free."""
        if self.bpp is None:
            return self.size
        return int(self.bpp * pixels.shape[0] * pixels.shape[1] / 8)


@dataclass(frozen=True)
class Encoding:
    """How pictures are coded; called for each."""

    preset: Preset
    wanted: Wanted
    force: bool
    device: str
    deterministic: bool
    strip: bool
    depth: int | None

    def __call__(self, job: Job, here: Session) -> dict[str, Any]:
        """Code a picture. Raises ToolkitErrors."""
        from toolkit.codec.base import as_picture
        from toolkit.codec.metadata import NO_METADATA
        from toolkit.deterministic import deterministic
        from toolkit.plugin.presets import open_codec

        check_output_file(job.target, self.force, job.source)
        name, standard = input_name(job.source), job.source == STANDARD
        with named_errors(name):
            image = io.BytesIO(read_input(job.source)) if standard else job.source
            picture = as_picture(image, name, cast(Any, self.depth))
        if self.strip:
            picture = replace(picture, metadata=NO_METADATA)
        height, width = picture.pixels.shape[:2]
        start = time.perf_counter()
        with named_errors(name), deterministic(self.deterministic):
            point, encoded, beyond = self._encode(here.plugins, picture)
        seconds = time.perf_counter() - start
        carried = open_codec(here.plugins, self.preset).carried(picture)
        lost = picture.metadata.kinds - carried.kinds
        notices = [
            *picture.notices,
            *_notices(encoded, sorted(lost)),
            *([beyond] if beyond else []),
        ]
        for notice in notices:
            say(f"{name}: {notice}")
        write_output(job.target, encoded.data, self.force)
        return {
            "file": output_name(job.target), "codec": self.preset.name, "point": point,
            "width": width, "height": height, "bytes": len(encoded.data),
            "bpp": 8 * len(encoded.data) / (height * width), "parts": encoded.parts,
            "kl_bits": encoded.kl_bits, "encode_s": seconds,
            "coder_encode_s": encoded.coder_seconds, "warning": beyond or None,
        }  # fmt: skip

    def _encode(self, plugins: Plugins, picture: Picture) -> tuple[float, Encoded, str]:
        """The point, the file at it, and a warning where what is wanted is beyond the codec."""
        from toolkit.cli.targets import encode_to_psnr, encode_within
        from toolkit.plugin.presets import open_codec

        open_with = partial(open_codec, plugins, device=self.device)
        size = self.wanted.bytes_of(picture.pixels)
        if self.wanted.psnr is not None:
            metrics = plugins.metrics
            return encode_to_psnr(open_with, self.preset, picture, self.wanted.psnr, metrics)
        if size is not None:
            return encode_within(open_with, self.preset, picture, size)
        return self.wanted.point, open_with(self.preset).encode(picture, self.wanted.point), ""

    def line(self, told: dict[str, Any]) -> str:
        """What a person is told of a picture."""
        took = f", {told['encode_s']:.0f} s" if told["encode_s"] > SLOW else ""
        size = f"{told['width']}x{told['height']}, {told['bytes']} bytes, {told['bpp']:.4f} bpp"
        return f"{told['file']}: {size}{took}"


def _notices(encoded: Encoded, lost: Sequence[str]) -> Iterator[str]:
    """What to say of a picture's metadata."""
    if lost:
        names = " and ".join(WORDS[kind] for kind in lost)
        yield f"{names} left out: this format, as it is written here, doesn't carry it"
    size = encoded.parts.get("metadata", 0) / 8
    if size > LARGE * len(encoded.data):
        share = 100 * size / len(encoded.data)
        yield f"{share:.0f} % of the file is metadata: --strip leaves it out"


def register(app: typer.Typer) -> None:
    app.command()(encode)
