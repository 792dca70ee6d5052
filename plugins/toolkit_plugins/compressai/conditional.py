"""CompressAI's hyperprior models as networks whose latent y is Gaussian given z."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import UsageError
from toolkit_plugins.compressai.checkpoints import Network
from toolkit_plugins.compressai.rans import ALONE, rate_arguments
from toolkit_plugins.hyperprior.coder import Floats, HyperTables, Integers, ScaleTable
from toolkit_plugins.hyperprior.gaussian import GaussianModel, Latents, Prior
from toolkit_plugins.hyperprior.images import from_network, padded, synthesise, to_network
from toolkit_plugins.hyperprior.parameter_check import fixed_order

if TYPE_CHECKING:
    from toolkit.codec.base import Pixels


class CompressAIModel(GaussianModel):
    """One of CompressAI's hyperprior models, variable-rate or not.

    Raises UsageError for autoregressive ones, whose prior of a latent needs its neighbours as
    decoded: they can't be coded as a whole.
    """

    step = 64

    def __init__(self, network: Network, point: float) -> None:
        if network.autoregressive or not hasattr(network.model, "h_s"):
            raise UsageError(
                f"{network.architecture}: only hyperprior models without context can be coded so"
            )
        self.network = network
        model = self.model = network.model
        self.has_means = network.architecture.startswith("mbt2018-mean")
        with ALONE, fixed_order():
            arguments = rate_arguments(network, point)
            self.gain, self.hyper_step = _steps(model, arguments)
            self.tables = _tables(model.entropy_bottleneck)
        self.fingerprint = network.fingerprint
        table = model.gaussian_conditional.scale_table.double().numpy()
        self.scales = ScaleTable(table, table[:-1])  # rounded up, as CompressAI does
        self.medians = model.entropy_bottleneck.quantiles[:, 0, 1].double()[:, None, None]

    def latents(self, rgb: Pixels) -> Latents:
        import torch

        with fixed_order():
            y = self.model.g_a(torch.from_numpy(to_network(rgb, self.step)))
            z = self.model.h_a(y if self.has_means else y.abs())[0].double()
        symbols = ((z - self.medians) / self.hyper_step).round().numpy()
        return Latents(y[0].double().numpy() * self.gain, self.tables.clip(symbols))

    def hyper_shape(self, height: int, width: int) -> tuple[int, int, int]:
        sides = (padded(side, self.step) // self.step for side in (height, width))
        return (len(self.tables.first), *sides)  # type: ignore[return-value]

    def prior(self, z: Integers, height: int, width: int) -> Prior:
        import torch

        z_hat = torch.from_numpy(z).double() * self.hyper_step + self.medians
        with fixed_order():
            parameters = _in_float64(self.network)(z_hat[None])[0].numpy()
        if not self.has_means:
            return Prior(np.zeros_like(parameters), parameters * self.gain)
        scale, mean = np.split(parameters * self.gain, 2)
        return Prior(mean, scale)

    def picture(
        self, y: Floats, height: int, width: int, precision: str = "float32", threads: int = 1
    ) -> Pixels:
        import torch

        latent = torch.from_numpy(y / self.gain).float()[None]
        return from_network(synthesise(self.model.g_s, latent, precision, threads), height, width)


@lru_cache(maxsize=4)
def _in_float64(network: Network) -> Any:
    return copy.deepcopy(network.model.h_s).double()


def _steps(model: Any, arguments: dict[str, Any]) -> tuple[float, float]:
    """(1 / step of y, step of z): 1 and 1 but for variable-rate models."""
    if not arguments:
        return 1.0, 1.0
    gain = arguments.get("inputscale")
    if gain is None:
        gain = model.Gain[arguments["s"]].abs()
    if not model.vr_entbttlnck:
        return float(gain), 1.0
    return float(gain), float(model.lower_bound_zqstep(model.gayn2zqstep(1 / gain.view(1))))


def _tables(bottleneck: Any) -> HyperTables:
    """CompressAI's tables without their last entry, the escape for what they don't hold."""
    first = bottleneck._offset.tolist()
    rows = bottleneck._quantized_cdf.numpy().astype(np.int64)
    lengths = bottleneck._cdf_length.tolist()
    counts = [np.diff(row[: n - 1]) for row, n in zip(rows, lengths, strict=True)]
    return HyperTables(first, counts)
