"""The wheel and the source distribution, each in an environment that has nothing else.

One environment for each Python from 3.11 to 3.13 that is at hand, the one that runs the tests among
them; where torch comes with CUDA, an environment takes 5 GB of disk while its test runs. Others
than the first are tried with TOOLKIT_PYTHONS=all.

    python -m pytest -m slow tests/packaging
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
KINDS = ("wheel", "sdist")
DATA = {
    "toolkit/registry.yaml", "toolkit/examples/sampler.py", "toolkit/py.typed",
    "toolkit_plugins/pln/weights/pln.safetensors", "toolkit_plugins/pln/recipes/pln.yaml",
    "toolkit_evaluation/report/page/report.js",
}  # fmt: skip
"""Files of a wheel that aren't code of packages."""


def pythons() -> Iterator[str]:
    """Programs: the one that runs this, then others of 3.11 to 3.13."""
    yield sys.executable
    if os.environ.get("TOOLKIT_PYTHONS") != "all":
        return
    for minor in (11, 12, 13):
        found = shutil.which(f"python3.{minor}")
        if found is None or minor == sys.version_info.minor:
            continue
        if subprocess.run([found, "-c", "import venv"], capture_output=True).returncode == 0:
            yield found


def call(*command: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program that knows nothing of this environment nor of the repository."""
    mine = ("PYTHONPATH", "VIRTUAL_ENV", "TOOLKIT_REGISTRY")
    env = {name: value for name, value in os.environ.items() if name not in mine}
    return subprocess.run(
        [str(word) for word in command], cwd=folder, env=env, capture_output=True, text=True
    )


def done(*command: object, folder: Path) -> str:
    finished = call(*command, folder=folder)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Kind -> file, as ``python -m build`` makes them: the wheel from the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    done(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    python = folder / "venv" / "bin" / "python"
    done(python, "-m", "pip", "install", "-q", "build", "twine", folder=folder)
    done(python, "-m", "build", "--outdir", folder, ROOT, folder=folder)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    done(python, "-m", "twine", "check", "--strict", wheel, sdist, folder=folder)
    shutil.rmtree(folder / "venv")
    return {"wheel": wheel, "sdist": sdist}


@pytest.mark.slow
def test_contents(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built["wheel"]) as wheel:
        names = set(wheel.namelist())
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        text = wheel.read(metadata).decode()
    assert names >= DATA
    assert not any(name.startswith(("tests/", "docs/")) for name in names)
    description = text.partition("\n\n")[2]
    assert "# Compression without quantization" in description
    assert "](docs/" not in description
    assert "![" not in description
    with tarfile.open(built["sdist"]) as sdist:
        inside = {name.partition("/")[2] for name in sdist.getnames()}
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        tracked = {name for name in listed.stdout.split("\0") if name}
        assert tracked - inside == {".gitignore"}


@pytest.mark.slow
@pytest.mark.parametrize("python", pythons(), ids=lambda path: Path(path).name)
@pytest.mark.parametrize("kind", KINDS)
def test_bare_environment(built: dict[str, Path], kind: str, python: str, tmp_path: Path) -> None:
    """Encoding and decoding with what is required alone; then eval, with its extra."""
    folder = tmp_path / "somewhere"
    (folder / "photos").mkdir(parents=True)
    y, x = np.mgrid[:96, :128]
    pixels = np.stack([2 * x, 2 * y, 128 + 60 * np.sin(x / 9)], 2).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "photos" / "a.png")
    venv = tmp_path / "venv"
    done(python, "-m", "venv", venv, folder=folder)
    install = [venv / "bin" / "python", "-m", "pip", "install", "-q"]
    toolkit = venv / "bin" / "toolkit"
    try:
        done(*install, built[kind], folder=folder)
        done(toolkit, "encode", "photos/a.png", "a.qf", "--threads", 1, folder=folder)
        done(toolkit, "decode", "a.qf", "--threads", 1, folder=folder)
        decoded = np.asarray(Image.open(folder / "a.png")).astype(float)
        assert 10 * np.log10(255**2 / np.square(decoded - pixels).mean()) > 28
        evaluate = (
            toolkit, "eval", "photos", "--codec", "pln-fast,jpeg", "--point", "pln-fast:0.5",
            "--point", "jpeg:50", "--threads", "1",
        )  # fmt: skip
        without = call(*evaluate, folder=folder)
        assert without.returncode == 4
        assert "pip install 'compression-without-quantization[eval]'" in without.stderr
        done(*install, f"{built[kind]}[eval]", folder=folder)
        assert "pln-fast" in done(*evaluate, folder=folder)
        assert (folder / "results" / "rate-distortion.png").exists()
        packages = done(*install[:3], "list", folder=folder).lower()
        assert "compressai" not in packages
    finally:
        shutil.rmtree(venv, ignore_errors=True)
