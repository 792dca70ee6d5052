"""The examples of ``examples/library``, shortened, and the figures that the guides give of them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "library"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_bayesian_network_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    short = ["bayesian_network.py", "--steps", "600", "--pictures", "2000", "--beta", "0.1"]
    monkeypatch.setattr(sys, "argv", short)
    found = example("bayesian_network").main()
    assert found["kl"] < found["bits"] < 1.25 * found["kl"] + 500
    assert found["bits"] < 2 * found["weights"]
    assert found["means"] > 50
    assert abs(found["coded sample"] - found["plain sample"]) < 10


def test_latents_of_a_compressai_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["compressai_latents.py", "--steps", "30"])
    found = example("compressai_latents").main()
    assert set(found) == {"rounded", "sampled"}
    sampled = found["sampled"]
    assert abs(sampled["y"] - sampled["estimate"]) < 0.1 * sampled["estimate"] + 0.02
    assert abs(found["rounded"]["psnr"] - sampled["psnr"]) < 3


def test_examples_are_short() -> None:
    for path in FOLDER.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 120, path.name
