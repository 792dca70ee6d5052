"""Small training runs: photographs, a recipe, a trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from toolkit.options import parse_options
from toolkit.plugin.loader import load_plugins
from toolkit.training.loop import Trainer
from toolkit.training.recipe import Recipe

SMALL = {"widths": [8, 8, 8], "level1_channels": 8, "level2_width": 8, "level2_channels": 4}

SMALL_DEEP = {
    "top": 3,
    "middle": [3, 4],
    "fine": [3, 4],
    "width4": 48,
    "width8": 192,
    "width16": 48,
    "width32": 8,
    "hidden16": 8,
    "hidden": 8,
}


def make_photos(folder: Path) -> Path:
    """Six small pictures in ``folder``."""
    rng = np.random.default_rng(0)
    for i in range(6):
        noise = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        noise.resize((160, 120), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


def recipe(photos: Path, **changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "model": "pln",
        "options": SMALL,
        "data": {"folder": str(photos), "hold_out": 1},
        "schedule": {"steps": 12, "warmup": 2, "phases": [{"until": 1, "crop": 96, "batch": 2}]},
        "objective": {"kl_warmup": 3},
        "threads": 1,
        "precision": "float32",
    }
    return parse_options(Recipe, {**values, **changes}, "test")


def said_of(kind: str) -> dict[str, str]:
    """Metadata of a weights file."""
    return {"model": kind, "options": "{}", "objective": "{}"}


def trainer(plan: Recipe, out: Path, branch: tuple[Path, int] | None = None) -> Trainer:
    torch.manual_seed(plan.seed)
    out.mkdir(parents=True, exist_ok=True)
    cls = load_plugins().entropy_model(plan.model).loaded
    return Trainer(cls(parse_options(cls.options_class, plan.options, "test")), plan, out, branch)


def assert_same_state(one: Path, other: Path) -> None:
    """Two checkpoints have all but their clocks in common, bit for bit."""
    states = [torch.load(path / "checkpoint.pt", weights_only=True) for path in (one, other)]
    for state in states:
        del state["seconds"]
    _assert_equal(states[0], states[1], "")


def _assert_equal(one: Any, other: Any, where: str) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key, value in one.items():
            _assert_equal(value, other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            _assert_equal(a, b, f"{where}/{i}")
    else:
        assert one == other, where
