"""Forks after threads, ``deterministic``, instruction sets: whoever wrote a file, it decodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import toolkit
from toolkit.deterministic import deterministic, deterministic_wanted
from toolkit.entropy_model.network import encoder_dtype
from toolkit_evaluation import EvaluationSettings, evaluate

FORK = """
import os, sys
import numpy as np, torch, toolkit
torch.set_num_threads(2)
codec = toolkit.load(sys.argv[1])
pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
data = codec.encode(pixels, 0.3).data
shown = toolkit.decode(data).astype(int)
child = os.fork()
if child == 0:  # one thread, where sums of floats may come out a little otherwise
    again = toolkit.decode(codec.encode(pixels, 0.3).data)
    near = np.abs(toolkit.decode(data).astype(int) - shown).max() <= 1
    os._exit(0 if near and again.shape == pixels.shape else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
WRITE = """
import sys
import numpy as np, torch, toolkit
from toolkit.deterministic import deterministic
preset, fixed, threads, path = sys.argv[1:]
torch.set_num_threads(int(threads))
rows, columns = np.mgrid[:61, :93]
lengths = ((9, 7), (13, 5), (4, 31))
waves = [128 + 60 * np.sin(rows / a) + 50 * np.cos(columns / b) for a, b in lengths]
noise = np.random.default_rng(1).normal(0, 9, (61, 93, 3))
pixels = np.clip(np.stack(waves, 2) + noise, 0, 255).astype(np.uint8)
with deterministic(fixed == "yes"):
    data = toolkit.load(preset).encode(pixels, 0.5).data
open(path, "wb").write(data)
"""
READ = """
import json, sys
import numpy as np, torch
from toolkit.codec.base import DecodeSettings
from toolkit.codec.opening import decode_file
out, *files = sys.argv[1:]
shown = {}
for file in files:
    # bfloat16 once: under SSE4.1 it takes oneDNN's reference kernels, which are slow
    ways = [("float32", 1), ("float32", 2), ("float64", 1), ("float64", 2), ("bfloat16", 1)]
    for precision, threads in ways:
        torch.set_num_threads(threads)
        settings = DecodeSettings(precision=precision, threads=threads)
        pixels = decode_file(open(file, "rb").read(), settings).pixels
        shown[f"{file}|{precision}|{threads}"] = pixels
np.savez(out, **{str(i): p for i, p in enumerate(shown.values())})
print(json.dumps(list(shown)))
"""
SETS = {
    "all": {},
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "sse41": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
}
"""What torch and oneDNN may use of the processor. Told to use what it hasn't, torch crashes."""
for name, instructions in (("avx512", "avx512_f"), ("avx2", "avx2")):
    if not torch.cpu.get_capabilities().get(instructions):
        del SETS[name]


def run(program: str, *arguments: str, **environment: str) -> str:
    """Standard output of a program in another process."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@pytest.mark.parametrize("preset", ["pln-fast", "hyperprior"])
def test_a_fork_after_threads_does_not_hang(preset: str) -> None:
    run(FORK, preset, OMP_NUM_THREADS="2")


def test_within_deterministic_all_is_float32_and_after_it_as_before() -> None:
    before = encoder_dtype(), torch.get_num_threads(), torch.backends.mkldnn.deterministic
    with deterministic():
        assert encoder_dtype() == torch.float32
        assert torch.get_num_threads() == 1
        assert torch.are_deterministic_algorithms_enabled()
        with deterministic(False):
            assert deterministic_wanted()
    assert not deterministic_wanted()
    assert not torch.are_deterministic_algorithms_enabled()
    now = encoder_dtype(), torch.get_num_threads(), torch.backends.mkldnn.deterministic
    assert now == before


def test_deterministic_rows_are_results_of_their_own(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    from PIL import Image

    Image.fromarray(pixels).save(tmp_path / "im.png")
    rows = {}
    for fixed in (False, True):
        settings = EvaluationSettings(points=[0.3], out=tmp_path / "out", deterministic=fixed)
        (rows[fixed],) = evaluate("pln-fast", tmp_path / "im.png", settings).rows
    assert rows[True].ok
    assert rows[True].key != rows[False].key
    with deterministic():
        data = toolkit.load("pln-fast").encode(pixels, 0.3).data
    assert rows[True].bytes == len(data)


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset", ["pln-fast", "deep-pln-fast", "pln-isgs", "hyperprior", "hyperprior-greedy"]
)
def test_files_of_every_instruction_set_decode_under_every_other(
    preset: str, tmp_path: Path
) -> None:
    """All pairs of instruction sets, precisions and threads: pixels within 1, in bfloat16 3."""
    files: dict[bytes, str] = {}
    for name, variables in SETS.items():
        for fixed in ("no", "yes"):
            found = [tmp_path / f"{name}-{fixed}-{threads}.qf" for threads in (1, 2)]
            for threads, path in zip("12", found, strict=True):
                run(WRITE, preset, fixed, threads, str(path), **variables)
            one, two = (path.read_bytes() for path in found)
            print(
                f"{preset} {name} {fixed}: {'equal' if one == two else 'another'} file by 2 threads"
            )
            assert one == two or fixed == "no"
            files |= {one: str(found[0]), two: str(found[1])}
    first: dict[str, np.ndarray] = {}
    for name, variables in SETS.items():
        out = tmp_path / f"{name}.npz"
        keys = json.loads(run(READ, str(out), *files.values(), **variables))
        with np.load(out) as pictures:
            for number, key in enumerate(keys):
                file, precision, _ = key.split("|")
                shown = pictures[str(number)].astype(int)
                expected = first.setdefault(file, shown)
                off = int(np.abs(shown - expected).max())
                assert off <= (3 if precision == "bfloat16" else 1), (name, key, off)
