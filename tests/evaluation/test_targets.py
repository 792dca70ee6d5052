"""Targets with real codecs: whole numbers, a parameter that runs down, a learned codec."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from toolkit.plugin.loader import load_plugins
from toolkit_evaluation import EvaluationSettings, evaluate
from toolkit_evaluation.data.datasets import sample_paths

PLUGINS = load_plugins()


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """A part of a photograph that ships inside scikit-image."""
    path = next(path for path in sample_paths() if path.stem == "astronaut")
    part = tmp_path_factory.mktemp("targets") / "part.png"
    Image.fromarray(np.asarray(Image.open(path))[:128, 150:310]).save(part)
    return part


@pytest.mark.parametrize(
    ("preset", "bpp", "psnr"),
    [("jpeg", 1.0, 28.0), ("bpg", 0.5, 30.0), ("pln-fast", 0.4, 26.0)],
)
def test_rate_and_quality_are_met_and_hardly_exceeded(photograph, preset, bpp, psnr):
    codec = PLUGINS.codec(preset.partition("-")[0])
    if codec.missing():
        pytest.skip(f"{preset} needs {codec.missing()}")
    table = evaluate(
        preset,
        photograph,
        EvaluationSettings(target_bpp=[bpp], target_psnr=[psnr]),
        plugins=PLUGINS,
    )
    at_rate, at_quality = table.rows
    assert at_rate.error is at_quality.error is None
    assert 0.85 * bpp < at_rate.bpp <= bpp
    assert psnr <= at_quality.psnr < psnr + 0.6
    # the next point would have missed it
    if codec.rate_parameter.integer:
        step = 1 if codec.rate_parameter.more_bits == "up" else -1
        points = [at_rate.point + step, at_quality.point - step]
        beyond = evaluate(
            preset, photograph, EvaluationSettings(points=points), plugins=PLUGINS
        ).rows
        assert beyond[0].bpp > bpp
        assert beyond[1].psnr < psnr
