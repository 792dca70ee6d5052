"""Files of other formats, damaged, through their native decoders in a child process.

TOOLKIT_MUTANTS says how many a format (default 2000); they differ from run to run only if
TOOLKIT_MUTANTS_SEED does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import toolkit
from toolkit.errors import MissingError

pytestmark = pytest.mark.slow
MUTANTS = int(os.environ.get("TOOLKIT_MUTANTS", "2000"))
SEED = os.environ.get("TOOLKIT_MUTANTS_SEED", "0")
FORMATS = {
    "jpeg": 70, "jpeg-progressive": 70, "jpeg2000": 30, "webp": 70, "avif": 60, "heic": 60,
    "jxl": 60, "bpg": 32,
}  # fmt: skip
CHILD = """
import random, signal, sys
from pathlib import Path
from mutants import mutated
from toolkit.codec.opening import decode_file
from toolkit.format.container import BadFile

folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
files = [path.read_bytes() for path in sorted(folder.iterdir())]
rng = random.Random(seed)
for data in files:
    decode_file(data)
refused = 0
for number in range(count):
    bad = mutated(files[number % len(files)], rng)
    (folder.parent / "last").write_bytes(bad)
    # either ends this process, also amid native code
    signal.setitimer(signal.ITIMER_PROF, 5)  # seconds at work, however much others have to do
    signal.alarm(120)
    try:
        pixels = decode_file(bad).pixels
        assert pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4)
    except BadFile:
        refused += 1
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.alarm(0)
print(refused)
"""


@pytest.mark.parametrize("preset", FORMATS)
def test_damaged_files_crash_and_hang_nothing(preset: str, tmp_path: Path) -> None:
    rows, columns = np.mgrid[:40, :56]
    waves = 128 + 60 * np.sin(rows / 5) + 50 * np.cos(columns / 7)
    pixels = np.stack([waves, waves[::-1], 255 - waves], axis=2).clip(0, 255).astype(np.uint8)
    folder = tmp_path / "files"
    folder.mkdir()
    try:
        codec = toolkit.load(preset)
        low = codec.spec.rate_parameter.low
        for number, picture in enumerate((pixels, pixels[:, :, :1], pixels[:9, :11])):
            point = max(low, FORMATS[preset])
            (folder / f"{number}").write_bytes(codec.encode(picture, point).data)
    except MissingError as error:
        pytest.skip(str(error))
    support = str(Path(__file__).parents[1] / "support")
    places = os.pathsep.join([support, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), str(MUTANTS), SEED],
        env={**os.environ, "PYTHONPATH": places}, capture_output=True, text=True,
    )  # fmt: skip
    last = (tmp_path / "last").read_bytes().hex()[:4000]
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}\n{last}"
    assert int(done.stdout) > MUTANTS // 20
