"""``toolkit info``: what is in a coded file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.cli import print_json, session
from toolkit.cli.columns import print_columns
from toolkit.cli.options import JsonFlag, MaxMemory, MaxPixels, set_limits
from toolkit.cli.streams import input_name, named_errors, read_input
from toolkit.errors import ToolkitError


def info(
    file: Annotated[
        Path,
        typer.Argument(readable=False, help="Any file that decode takes; - for standard input."),
    ],
    max_pixels: MaxPixels = None,
    max_memory: MaxMemory = None,
    json: JsonFlag = False,
) -> None:
    """Show what is in a coded file: of a .qf its header and streams; no weights needed."""
    from toolkit.format.container import is_container

    set_limits(max_pixels, max_memory)
    name = input_name(file)
    with named_errors(name):
        data = read_input(file)
        told = _container(name, data) if is_container(data) else _native(name, data)
    if json:
        print_json(told)
        return
    rows: list[tuple[str, str]] = []
    for key, value in told.items():
        if key == "streams":
            for stream in value:
                share = stream["bytes"] / len(data)
                rows.append((f"stream {stream['name']}", f"{stream['bytes']} bytes, {share:.1%}"))
        else:
            rows.append((key.replace("_", " "), _words(value)))
    print_columns(rows)


def _words(value: Any) -> str:
    """A value as people write it."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(inner)}" for key, inner in value.items())
    if isinstance(value, bool) or value is None:
        return {None: "none", True: "true", False: "false"}[value]
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _container(name: str, data: bytes) -> dict[str, Any]:
    """Of a .qf file. Raises a ``BadFile``."""
    from toolkit.codec.container_codec import colours_in, metadata_in
    from toolkit.codec.opening import codec_of_container
    from toolkit.format.container import read_container, read_header

    header = read_header(data)
    container = read_container(data)
    told: dict[str, Any] = {
        "file": name,
        "version": ".".join(map(str, header.version)),
        "bytes": len(data),
        "bpp": 8 * len(data) / (header.width * header.height),
        "width": header.width,
        "height": header.height,
        "mode": header.mode,
        "codec": header.codec,
        "stream_version": header.stream_version,
        "weights": header.fingerprint.hex() if header.fingerprint else None,
        "header_bytes": header.size,
        "streams": [{"name": s.name, "bytes": len(s.data)} for s in container.streams],
    }
    if metadata := metadata_in(container):
        told["metadata"] = metadata.words()
    try:
        with named_errors(name):
            told |= codec_of_container(container, session().plugins).describe(colours_in(container))
    except ToolkitError as error:
        told["note"] = str(error)
    return told


def _native(name: str, data: bytes) -> dict[str, Any]:
    """Of a file of a format of its own. Raises a ``BadFile``."""
    from toolkit.codec.opening import codec_of_native_file

    codec = codec_of_native_file(data, session().plugins)
    width, height, mode = codec.picture_of(data)
    return {
        "file": name, "format": codec.spec.summary, "bytes": len(data),
        "bpp": 8 * len(data) / (width * height), "width": width, "height": height, "mode": mode,
        "codec": codec.spec.name,
    }  # fmt: skip


def register(app: typer.Typer) -> None:
    app.command()(info)
