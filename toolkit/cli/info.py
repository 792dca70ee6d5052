"""``toolkit info``: what is in a coded file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.cli import print_json, session
from toolkit.cli.options import JsonFlag, MaxMemory, MaxPixels, set_limits
from toolkit.cli.streams import input_name, named_errors, read_input
from toolkit.errors import ToolkitError


def info(
    file: Annotated[Path, typer.Argument(readable=False, help="A .qf file; - for standard input.")],
    max_pixels: MaxPixels = None,
    max_memory: MaxMemory = None,
    json: JsonFlag = False,
) -> None:
    """Show the header and the streams of a .qf file; no weights needed, nothing decoded."""
    from toolkit.codec.opening import codec_of_container
    from toolkit.format.container import read_container, read_header

    set_limits(max_pixels, max_memory)
    name = input_name(file)
    with named_errors(name):
        data = read_input(file)
        header = read_header(data)
        container = read_container(data)
    pixels = header.width * header.height
    told: dict[str, Any] = {
        "file": name,
        "version": ".".join(map(str, header.version)),
        "bytes": len(data),
        "bpp": 8 * len(data) / pixels,
        "width": header.width,
        "height": header.height,
        "mode": header.mode,
        "codec": header.codec,
        "stream_version": header.stream_version,
        "weights": header.fingerprint.hex() if header.fingerprint else None,
        "header_bytes": header.size,
        "streams": [{"name": s.name, "bytes": len(s.data)} for s in container.streams],
    }
    try:
        with named_errors(name):
            told |= codec_of_container(container, session().plugins).describe(container)
    except ToolkitError as error:
        told["note"] = str(error)
    if json:
        print_json(told)
        return
    for key, value in told.items():
        if key == "streams":
            for stream in value:
                share = 100 * stream["bytes"] / len(data)
                print(f"{'stream':>15}  {stream['name']}: {stream['bytes']} bytes, {share:.1f} %")
        else:
            print(f"{key:>15}  {f'{value:.4f}' if isinstance(value, float) else value}")


def register(app: typer.Typer) -> None:
    app.command()(info)
