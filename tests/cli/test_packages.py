"""Optional packages that aren't there: one line with the command that installs them, status 4."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from toolkit import packages
from toolkit.errors import MissingError
from toolkit.packages import EXTRA_OF
from toolkit.training.objective import RateDistortion
from toolkit.training.recipe import Objective

ROOT = Path(__file__).parents[2]
WITHOUT = """
import importlib.util, sys
from toolkit.cli import main

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
sys.argv = ["toolkit", *{arguments!r}]
main()
"""


def without(absent: set[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    """The program where some packages aren't installed."""
    source = WITHOUT.format(absent=absent, arguments=[str(word) for word in arguments])
    return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("absent", "arguments", "extra"),
    [
        ("pytorch_msssim", ("eval", "--codec", "jpeg", "{photo}", "--out", "{out}"), "eval"),
        ("bjontegaard", ("eval", "--codec", "jpeg", "{photo}", "--out", "{out}"), "eval"),
        ("matplotlib", ("eval", "--codec", "jpeg", "{photo}", "--out", "{out}"), "eval"),
        ("matplotlib", ("bench", "samplers", "--synthetic", "--plot", "{out}"), "eval"),
        ("pillow_jxl", ("encode", "{photo}", "{out}.jxl"), "jxl"),
        ("compressai", ("encode", "{photo}", "--codec", "mbt2018-mean"), "compressai"),
        ("distributed", ("eval", "--codec", "jpeg", "{photo}", "--scheduler", "x"), "cluster"),
    ],
)
def test_what_is_missing_is_named_at_once(
    photo: Path, tmp_path: Path, absent: str, arguments: tuple[str, ...], extra: str
) -> None:
    names = {"photo": photo, "out": tmp_path / "out"}
    packages = {absent, "dask"} if absent == "distributed" else {absent}
    done = without(packages, *[word.format(**names) for word in arguments])
    assert done.returncode == 4, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("toolkit: ")
    assert absent in line
    assert line.endswith(f"pip install 'compression-without-quantization[{extra}]'")


def test_a_package_that_is_met_on_the_way_is_named_too(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    command = ("eval", "--codec", "jpeg,webp", photo, "--out", out, "--no-plot")
    assert without(set(), *command).returncode == 0
    done = without({"bjontegaard"}, "report", out)
    assert done.returncode == 4
    assert done.stderr.splitlines() == [
        "toolkit: this needs bjontegaard: not installed; "
        "pip install 'compression-without-quantization[eval]'"
    ]


def test_training_for_ms_ssim_says_so_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "present", lambda module: module != "pytorch_msssim")
    RateDistortion(Objective(distortion="mse"))
    with pytest.raises(MissingError, match=r"ms-ssim needs pytorch_msssim: .*\[eval\]'$"):
        RateDistortion(Objective(distortion="ms-ssim"))


def test_extras_install_the_packages_that_are_said_to_be_in_them() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    of_module = {"av": "av", "skimage": "scikit-image"}
    for module, extra in EXTRA_OF.items():
        name = of_module.get(module, module)
        wanted = {name.replace("_", "-").lower(), f"{name}-plugin".replace("_", "-").lower()}
        listed = {text.split(">")[0].split("=")[0].lower() for text in extras[extra]}
        assert wanted & listed, (module, extra)
