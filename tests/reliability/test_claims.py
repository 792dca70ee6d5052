"""Short files that claim large pictures: refused at once, or decoded within 2 GiB."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from toolkit.format.container import read_container, write_container

pytestmark = pytest.mark.slow
GOLDEN = Path(__file__).parents[1] / "golden"
FILES = [
    path
    for path in sorted(GOLDEN.glob("*/*.qf"))
    if path.stem.endswith("1x1") and path.stat().st_size < 290
]
SIDES = {16.7: 4096, 67.1: 8192, 178.9: 13_377}
"""10^6 pixels, and a side of the square that has them."""
DECODE = """
import os, sys
from toolkit.cli import main
from toolkit_evaluation.run.memory import high_water_mark
try:
    main()
finally:
    print(high_water_mark(), file=sys.stdout)
"""


@pytest.mark.parametrize("megapixels", SIDES)
@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_claim_is_refused_or_decoded_in_little_memory(
    path: Path, megapixels: float, tmp_path: Path
) -> None:
    side = SIDES[megapixels]
    small = read_container(path.read_bytes())
    file = tmp_path / "claim.qf"
    data = write_container(replace(small, width=side, height=side))
    assert len(data) < 300
    file.write_bytes(data)
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", DECODE, "decode", str(file), str(tmp_path / "out.png"),
         "--weights", str(path.with_name("weights.safetensors"))],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    peak = float(done.stdout.split()[-1])
    print(f"{path.stem} {megapixels}: {done.returncode}, {peak:.0f} MiB, {done.stderr.strip()}")
    assert peak < 2048
    if megapixels > 17:
        assert done.returncode == 3
        assert "made to take your memory" in done.stderr
        assert time.monotonic() - start < 60
    else:
        assert done.returncode in (0, 3)
        assert len(done.stderr.splitlines()) <= 1
