"""The harness: data sets, metrics, a runner whose results survive anything, and figures.

::

    from toolkit_evaluation import EvaluationSettings, evaluate

    table = evaluate(["pln-isgs", "jpeg"], "kodak/", EvaluationSettings(workers=2))
    table.means                                      # one for each codec and point

Importing this package is instant; what computes is imported on first use.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from toolkit.plugin.hookspecs import hookimpl
from toolkit.plugin.specs import MetricSpec

if TYPE_CHECKING:
    from toolkit_evaluation.results.table import Table as Table
    from toolkit_evaluation.run.plan import evaluate as evaluate
    from toolkit_evaluation.run.settings import EvaluationSettings as EvaluationSettings

__all__ = ["EvaluationSettings", "Table", "evaluate", "toolkit_metrics"]
_PLACES = {
    "EvaluationSettings": "toolkit_evaluation.run.settings",
    "Table": "toolkit_evaluation.results.table",
    "evaluate": "toolkit_evaluation.run.plan",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


@hookimpl
def toolkit_metrics() -> Iterator[MetricSpec]:
    """The metrics that come with the toolkit."""
    module = "toolkit_evaluation.metrics.fidelity"
    yield MetricSpec("psnr", "peak signal-to-noise ratio, 8-bit RGB", f"{module}:psnr", unit="dB")
    yield MetricSpec(
        "psnr-y", "peak signal-to-noise ratio of BT.601 luma", f"{module}:psnr_y", unit="dB"
    )
    yield MetricSpec(
        "ms-ssim",
        "multi-scale structural similarity, RGB, from 161 pixels a side",
        f"{module}:ms_ssim",
        needs=("python:pytorch_msssim",),
        reference="Wang, Simoncelli, Bovik: Multiscale structural similarity (2003)",
    )
    yield MetricSpec(
        "ssim",
        "structural similarity, RGB, from 11 pixels a side",
        f"{module}:ssim",
        needs=("python:pytorch_msssim",),
        reference="Wang et al.: Image quality assessment (2004)",
    )
    yield MetricSpec(
        "ssimulacra2",
        "SSIMULACRA 2, by libjxl's program",
        "toolkit_evaluation.metrics.external:ssimulacra2",
        needs=("ssimulacra2",),
        reference="Sneyers: SSIMULACRA 2 (2022), github.com/cloudinary/ssimulacra2",
    )
    yield MetricSpec(
        "butteraugli",
        "Butteraugli's largest difference, by libjxl's program",
        "toolkit_evaluation.metrics.external:butteraugli",
        needs=("butteraugli_main",),
        higher_is_better=False,
        reference="Alakuijala et al.: Guetzli (2017), arXiv:1703.04421",
    )
    yield MetricSpec(
        "lpips",
        "LPIPS on AlexNet's features, by its authors' package; torchvision's weights",
        "toolkit_evaluation.metrics.perceptual:lpips",
        needs=("python:lpips", "python:torchvision"),
        higher_is_better=False,
        reference="Zhang et al.: The unreasonable effectiveness of deep features (2018), "
        "arXiv:1801.03924",
    )
    yield MetricSpec(
        "dists",
        "DISTS on VGG-16's features, by its authors' package; torchvision's weights",
        "toolkit_evaluation.metrics.perceptual:dists",
        needs=("python:DISTS_pytorch", "python:torchvision"),
        higher_is_better=False,
        reference="Ding et al.: Image quality assessment: unifying structure and texture "
        "similarity (2020), arXiv:2004.07728",
    )
