"""Short files that claim large pictures: refused at once, or decoded within 2 GiB."""

from __future__ import annotations

import runpy
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from claimed_sizes import CLAIMING, container

import toolkit
from toolkit.codec.opening import decode_file

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


@pytest.fixture(scope="module")
def latents_weights() -> Path:
    """Whose tables aren't in the repository."""
    with_tables = runpy.run_path(str(GOLDEN / "latents" / "make.py"))["with_tables"]
    found: Path = with_tables(GOLDEN / "latents" / "weights.safetensors")
    return found


@pytest.mark.parametrize("megapixels", SIDES)
@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_claim_is_refused_or_decoded_in_little_memory(
    path: Path, megapixels: float, tmp_path: Path, latents_weights: Path
) -> None:
    weights = path.with_name("weights.safetensors")
    weights = latents_weights if path.parent.name == "latents" else weights
    data = container(path.read_bytes(), SIDES[megapixels])
    assert len(data) < 300
    check(path.stem, data, megapixels, tmp_path, "--weights", str(weights))


@pytest.mark.parametrize("megapixels", SIDES)
@pytest.mark.parametrize("preset", CLAIMING)
def test_claims_of_files_of_every_codec(preset: str, megapixels: float, tmp_path: Path) -> None:
    point, claiming = CLAIMING[preset]
    codec = toolkit.load(preset)
    if missing := codec.spec.missing():
        pytest.skip(str(missing))
    small = codec.encode(np.full((64, 64, 3), 120, np.uint8), point).data
    decode_file(small)
    assert len(small) < 700
    check(preset, claiming(small, SIDES[megapixels]), megapixels, tmp_path)


def check(name: str, data: bytes, megapixels: float, folder: Path, *more: str) -> None:
    """What becomes of a file in a process of its own."""
    file = folder / "claim"
    file.write_bytes(data)
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", DECODE, "decode", str(file), str(folder / "out.png"), *more],
        capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    peak, seconds = float(done.stdout.split()[-1]), time.monotonic() - start
    said = done.stderr.strip().replace(str(folder), "")
    print(f"{name} {megapixels}: {done.returncode}, {peak:.0f} MiB, {seconds:.0f} s, {said}")
    assert peak < 2048
    assert "weights" not in done.stderr  # the file was at fault, if any was
    if megapixels > 17:
        assert done.returncode == 3
        assert "made to take your memory" in done.stderr
    else:
        assert done.returncode in (0, 3)
        assert len(done.stderr.splitlines()) <= 1
