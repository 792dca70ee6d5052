"""The programs ``bpgenc`` and ``bpgdec`` (bellard.org/bpg), where they are installed."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from toolkit.codec.base import as_pixels

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels

NAMES = ("bpgenc", "bpgdec")
SECONDS = 600
"""Longest that a run may take."""


def encode(pixels: Pixels, qp: int, options: Any) -> bytes:
    """The file that bpgenc makes. Raises RuntimeError with its message where it fails."""
    arguments = [
        "-q", str(qp), "-m", str(options.effort), "-b", "8", "-c", options.colour,
        "-f", options.chroma.replace(":", ""),
    ]  # fmt: skip
    if options.backend:
        arguments += ["-e", options.backend]
    with tempfile.TemporaryDirectory(prefix="bpg-") as name:
        source, target = Path(name, "in.png"), Path(name, "out.bpg")
        picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        picture.save(source, compress_level=1)
        _run([NAMES[0], *arguments, "-o", str(target), str(source)])
        return target.read_bytes()


def decode(data: bytes) -> Pixels:
    """Pixels, uint8 (H, W, C). Raises RuntimeError where bpgdec fails."""
    with tempfile.TemporaryDirectory(prefix="bpg-") as name:
        source, target = Path(name, "in.bpg"), Path(name, "out.png")
        source.write_bytes(data)
        _run([NAMES[1], "-o", str(target), str(source)])
        with Image.open(target) as picture:
            return as_pixels(picture)


def versions() -> dict[str, Any]:
    """The version that each program prints."""
    found = {}
    for name in NAMES:
        run = subprocess.run([name, "-h"], capture_output=True, text=True, check=False, timeout=60)
        version = re.search(r"version\s+(\S+)", run.stdout + run.stderr)
        found[name] = version.group(1) if version else "unknown"
    return {"encoder": "bpgenc", **found}


def _run(command: list[str]) -> None:
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{command[0]} took more than {SECONDS} s") from None
    if run.returncode:
        said = (run.stderr or run.stdout).strip().splitlines()
        raise RuntimeError(f"{command[0]}: {said[-1] if said else f'status {run.returncode}'}")
