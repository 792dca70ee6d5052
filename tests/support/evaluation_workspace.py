"""A small workspace to evaluate in: registry, images, the plugin of ``evaluation_plugin``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import evaluation_plugin
import numpy as np
import pytest
from PIL import Image

from toolkit.plugin.loader import load_plugins
from toolkit_evaluation import EvaluationSettings, evaluate

PLUGIN = Path(evaluation_plugin.__file__)
REGISTRY = """
presets:
  grid: {codec: grid, sweep: [8, 16, 32, 64]}
  fine: {codec: grid, options: {level: 9}, sweep: [4, 12]}
"""
TIMES = ("_s", "_mib", "seconds")


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder with a registry and three images; plugins; a log of what was encoded."""
    monkeypatch.setenv("GRID_LOG", str(tmp_path / "log"))
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    (tmp_path / "images").mkdir()
    for number in range(3):
        add_image(tmp_path / "images" / f"im{number}.png", number)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add_image(path, seed, first=100, shape=(20, 24, 3)):
    pixels = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    pixels.flat[0] = first
    Image.fromarray(pixels[:, :, 0] if shape[2] == 1 else pixels).save(path)


def run(
    workspace, presets="grid", images="images", options=None, notice=None, on_row=None, **settings
):
    """An evaluation into ``results``, or another ``out``, with these settings."""
    settings.setdefault("out", workspace / "results")
    return evaluate(
        presets,
        images,
        EvaluationSettings(**settings),
        options=options,
        plugins=load_plugins([PLUGIN]),
        notice=notice or (lambda text: None),
        on_row=on_row or (lambda row, cached: None),
    )


def encoded(workspace):
    """How many encodings of whole images there were since last asked (warm-ups are small)."""
    log = workspace / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return len(lines)


def timeless(rows):
    """Rows without what differs from run to run."""
    plain = [row if isinstance(row, dict) else row.to_dict() for row in rows]
    return [{k: v for k, v in row.items() if not k.endswith(TIMES)} for row in plain]


def command(workspace, *arguments):
    line = ["eval", "--plugin", str(PLUGIN), "--no-plot", *arguments]
    return [sys.executable, "-c", "from toolkit.cli import main; main()", *line]


def call(workspace, *arguments):
    return subprocess.run(
        command(workspace, *arguments), cwd=workspace, capture_output=True, text=True, timeout=120
    )
