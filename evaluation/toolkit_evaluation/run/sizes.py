"""Time and memory of ``toolkit encode`` and ``toolkit decode`` by the size of the picture.

Each command is a process of its own, as for a person who codes one picture. Pictures are
photographs' textures, mirrored until they have the wanted size, in PNG files.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from toolkit.threads import environment_with_threads

if TYPE_CHECKING:
    from rich.table import Table

_PROGRAM = """
import os, sys
from toolkit.cli import main
from toolkit_evaluation.run.memory import high_water_mark
told = int(sys.argv.pop(1))
try:
    main()
finally:
    os.write(told, str(high_water_mark()).encode())
"""
_ASPECT = 3 / 2


class SizeRow(msgspec.Struct, frozen=True):
    """One command on one picture."""

    preset: str
    megapixels: float
    command: str
    """``encode`` or ``decode``."""
    seconds: float | None = None
    """Of coding or decoding alone, without reading and writing pictures."""
    peak_mib: float | None = None
    """The most that the whole process held, in MiB; None where the system doesn't tell."""
    bytes: int | None = None
    """Of the coded file."""
    error: str | None = None
    """What the command said, where it failed."""


def measure_sizes(
    presets: Iterable[str],
    megapixels: Sequence[float],
    threads: int = 1,
    arguments: Sequence[str] = (),
) -> Iterator[SizeRow]:
    """A row for each preset, size and command, as soon as it is there; what fails says so.

    Arguments:
        presets: Names in the registry.
        megapixels: Sizes of the pictures, in 10^6 pixels.
        threads: Of the processes' numerical libraries.
        arguments: Handed to every command, as ``--registry FILE`` or ``--max-pixels N``.
    """
    with tempfile.TemporaryDirectory() as folder:
        for size in megapixels:
            picture = Path(folder) / "picture.png"
            _in_child(f"draw({size!r}, {str(picture)!r})", threads)
            for preset in presets:
                coded, decoded = Path(folder) / "coded", Path(folder) / "decoded.png"
                encode = ["encode", str(picture), str(coded), "--codec", preset]
                for command in (encode, ["decode", str(coded), str(decoded)]):
                    row = _measured(preset, size, [*command, "--force", *arguments], threads)
                    if coded.exists():
                        row = msgspec.structs.replace(row, bytes=coded.stat().st_size)
                    yield row
                    if row.error is not None:
                        break
                coded.unlink(missing_ok=True)
                decoded.unlink(missing_ok=True)


def draw(megapixels: float, path: str) -> None:
    """Write a picture of about so many 10^6 pixels, 3 to 2. In a process of its own, since it
    takes memory."""
    import numpy as np
    from PIL import Image

    from toolkit_evaluation.data.datasets import sample_paths

    height = max(1, round(math.sqrt(megapixels * 1e6 / _ASPECT)))
    width = max(1, round(megapixels * 1e6 / height))
    with Image.open(sample_paths()[0]) as file:
        piece = np.asarray(file.convert("RGB"))
    across = np.concatenate([piece, piece[:, ::-1]], axis=1)
    both = np.concatenate([across, across[::-1]])
    repeats = (-(-height // both.shape[0]), -(-width // both.shape[1]), 1)
    pixels = np.tile(both, repeats)[:height, :width]
    Image.fromarray(pixels).save(path, compress_level=1)


def _in_child(call: str, threads: int) -> None:
    program = f"from {__name__} import draw\n{call}"
    subprocess.run(
        [sys.executable, "-c", program], check=True, env=environment_with_threads(threads)
    )


def _measured(preset: str, size: float, arguments: Sequence[str], threads: int) -> SizeRow:
    with tempfile.TemporaryFile() as told:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(told.fileno()), *arguments, "--json"],
            pass_fds=[told.fileno()],
            capture_output=True,
            text=True,
            env=environment_with_threads(threads),
        )
        told.seek(0)
        peak = told.read().decode()
    row = SizeRow(preset, size, arguments[0], peak_mib=_number(peak))
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        return msgspec.structs.replace(row, error=said[-1].removeprefix("toolkit: "))
    return msgspec.structs.replace(row, seconds=json.loads(done.stdout)[f"{arguments[0]}_s"])


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def sizes_table(rows: Sequence[SizeRow]) -> Table:
    """For a terminal."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("preset", "command", "Mpx", "seconds", "peak MiB", "bytes", "error"):
        table.add_column(title, justify="left" if title in ("preset", "error") else "right")
    for row in rows:
        table.add_row(
            row.preset,
            row.command,
            f"{row.megapixels:g}",
            "-" if row.seconds is None else f"{row.seconds:.1f}",
            "-" if row.peak_mib is None else f"{row.peak_mib:.0f}",
            "-" if row.bytes is None else str(row.bytes),
            row.error or "",
        )
    return table


def sizes_json(rows: Sequence[SizeRow]) -> bytes:
    """For programs: a list of rows."""
    return msgspec.json.encode(rows) + b"\n"
