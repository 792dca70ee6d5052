"""Metrics that are programs of their own, run on PNG files: SSIMULACRA 2 and Butteraugli.

Both come with libjxl's tools (``ssimulacra2``, ``butteraugli_main``).
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels

TIMEOUT = 120.0
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)


class ProgramFailed(ToolkitError):
    """A metric's program that ended badly or printed no number."""


def ssimulacra2(original: Pixels, decoded: Pixels) -> float:
    """SSIMULACRA 2 (Sneyers, Cloudinary, 2022): 100 for equal images, 90 hardly visible."""
    return _run("ssimulacra2", original, decoded)


def butteraugli(original: Pixels, decoded: Pixels) -> float:
    """Butteraugli's largest difference (Alakuijala et al. 2017): 0 for equal images, 1 just
    visible."""
    return _run("butteraugli_main", original, decoded)


def _run(program: str, original: Pixels, decoded: Pixels) -> float:
    """The first number that ``program ORIGINAL.png DECODED.png`` prints.

    Raises ProgramFailed.
    """
    with tempfile.TemporaryDirectory(prefix="toolkit-metric-") as folder:
        paths = [Path(folder) / "original.png", Path(folder) / "decoded.png"]
        for path, pixels in zip(paths, (original, decoded), strict=True):
            Image.fromarray(pixels).save(path, compress_level=1)
        try:
            done = subprocess.run(
                [program, *map(str, paths)], capture_output=True, text=True, timeout=TIMEOUT
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ProgramFailed(f"{program}: {error}") from None
    found = _NUMBER.search(done.stdout)
    if done.returncode != 0 or found is None:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise ProgramFailed(f"{program}: exit status {done.returncode}, {said[-1]}")
    return float(found[0])
