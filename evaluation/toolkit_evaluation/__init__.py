"""The harness: data sets, metrics, a runner whose results survive anything, and figures.

::

    from toolkit_evaluation import evaluate

    table = evaluate(["pln-isgs", "jpeg"], "kodak/")
    table.means                                      # one dict for each codec and point

Importing this package is instant; what computes is imported on first use.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from toolkit import hookimpl
from toolkit.plugin.specs import MetricSpec

if TYPE_CHECKING:
    from toolkit_evaluation.results.table import Table as Table
    from toolkit_evaluation.run.evaluation import evaluate as evaluate

__all__ = ["Table", "evaluate", "toolkit_metrics"]


def __getattr__(name: str) -> Any:
    if name == "evaluate":
        from toolkit_evaluation.run.evaluation import evaluate

        return evaluate
    if name == "Table":
        from toolkit_evaluation.results.table import Table

        return Table
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@hookimpl
def toolkit_metrics() -> Iterator[MetricSpec]:
    """The metrics that come with the toolkit."""
    here = "toolkit_evaluation.metrics.fidelity"
    yield MetricSpec("psnr", "peak signal-to-noise ratio, 8-bit RGB", f"{here}:psnr", unit="dB")
    yield MetricSpec(
        "psnr-y", "peak signal-to-noise ratio of BT.601 luma", f"{here}:psnr_y", unit="dB"
    )
    yield MetricSpec(
        "ms-ssim",
        "multi-scale structural similarity, RGB, from 161 pixels a side",
        f"{here}:ms_ssim",
        reference="Wang, Simoncelli, Bovik: Multiscale structural similarity (2003)",
    )
    yield MetricSpec(
        "ssim",
        "structural similarity, RGB, from 11 pixels a side",
        f"{here}:ssim",
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
