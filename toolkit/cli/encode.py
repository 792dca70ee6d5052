"""``toolkit encode``: a picture to a coded file."""

from __future__ import annotations

import io
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.cli import session
from toolkit.cli.options import (
    Deterministic,
    Force,
    JsonFlag,
    MaxMemory,
    MaxPixels,
    OptionList,
    OutputFolder,
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

if TYPE_CHECKING:
    from toolkit.cli import Session
    from toolkit.cli.batch import Job
    from toolkit.codec.base import Encoded, Pixels
    from toolkit.codec.search import PointTarget
    from toolkit.plugin.loader import Plugins
    from toolkit.plugin.presets import Preset

SLOW = 2.0
"""Seconds from which on the time is told."""


def encode(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE... [OUTPUT]",
            readable=False,  # what can't be read is told below, as every bad input
            help="Pictures (PNG, JPEG, WebP, TIFF ...), folders or patterns; - for standard "
            "input or output. Default for OUTPUT: IMAGE with the codec's suffix.",
        ),
    ],
    codec: Annotated[
        str | None,
        typer.Option(help="A preset; see `toolkit presets`. Default: the registry's."),
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
    refinement_steps: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Gradient steps that fit the code to this picture: smaller files at the same "
            "quality, slower to make, no slower to decode. As -o refinement_steps=N.",
        ),
    ] = None,
    option: OptionList = None,
    threads: Threads = None,
    out: OutputFolder = None,
    workers: Workers = 1,
    force: Force = False,
    deterministic: Deterministic = False,
    max_pixels: MaxPixels = None,
    max_memory: MaxMemory = None,
    json: JsonFlag = False,
) -> None:
    """Code a picture, or many."""
    from toolkit.cli.batch import plan, run_all, run_one
    from toolkit.cli.options import presets_with_options, set_limits
    from toolkit.errors import UsageError
    from toolkit.plugin.presets import open_codec

    set_limits(max_pixels, max_memory)
    here = session()
    steps = [] if refinement_steps is None else [f"refinement_steps={refinement_steps}"]
    names = [codec or here.registry.default]
    (preset,) = presets_with_options(here.registry, names, [*(option or []), *steps])
    spec = open_codec(here.plugins, preset).spec
    if sum(value is not None for value in (point, target_bytes, target_bpp)) > 1:
        raise UsageError("--point, --target-bytes and --target-bpp exclude each other")
    if point is None:
        point = preset.sweep[len(preset.sweep) // 2]
    work = Encoding(preset, point, target_bytes, target_bpp, force, deterministic)
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
class Encoding:
    """How pictures are coded; called for each."""

    preset: Preset
    point: float
    target_bytes: int | None
    target_bpp: float | None
    force: bool
    deterministic: bool

    def __call__(self, job: Job, here: Session) -> dict[str, Any]:
        """Code a picture. Raises ToolkitErrors."""
        from toolkit.codec.base import as_pixels
        from toolkit.deterministic import deterministic
        from toolkit.plugin.presets import open_codec

        check_output_file(job.target, self.force, job.source)
        name, standard = input_name(job.source), job.source == STANDARD
        with named_errors(name):
            image = io.BytesIO(read_input(job.source)) if standard else job.source
            pixels = as_pixels(image, name)
        height, width = pixels.shape[:2]
        size, point = self.target_bytes, self.point
        if self.target_bpp is not None:
            size = int(self.target_bpp * height * width / 8)
        start = time.perf_counter()
        with named_errors(name), deterministic(self.deterministic):
            if size is None:
                encoded = open_codec(here.plugins, self.preset).encode(pixels, point)
            else:
                point, encoded = _within(here.plugins, self.preset, pixels, size)
        seconds = time.perf_counter() - start
        write_output(job.target, encoded.data, self.force)
        return {
            "file": output_name(job.target), "codec": self.preset.name, "point": point,
            "width": width, "height": height, "bytes": len(encoded.data),
            "bpp": 8 * len(encoded.data) / (height * width), "parts": encoded.parts,
            "kl_bits": encoded.kl_bits, "encode_s": seconds,
            "coder_encode_s": encoded.coder_seconds,
        }  # fmt: skip

    def line(self, told: dict[str, Any]) -> str:
        """What a person is told of a picture."""
        took = f", {told['encode_s']:.0f} s" if told["encode_s"] > SLOW else ""
        size = f"{told['width']}x{told['height']}, {told['bytes']} bytes, {told['bpp']:.4f} bpp"
        return f"{told['file']}: {size}{took}"


def _within(
    plugins: Plugins, preset: Preset, pixels: Pixels, target_bytes: int
) -> tuple[float, Encoded]:
    """The point at which the file comes to ``target_bytes``, and that file.

    The point is looked for without refinement, which takes a dozen files; where the codec can't
    fill the wanted size from there, again with it. Raises InputError where no file is so small.
    """
    from toolkit.codec.search import find_point
    from toolkit.errors import UsageError
    from toolkit.plugin.presets import open_codec

    coder, steps = open_codec(plugins, preset), "refinement_steps"
    target = _at_most(target_bytes, pixels)
    if preset.options.get(steps):
        quick = open_codec(plugins, replace(preset, options={**preset.options, steps: 0}))
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
