"""The codec of the hyperprior trained by us. It needs no CompressAI."""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from toolkit.codec.container_codec import weights_of_file
from toolkit.errors import UsageError
from toolkit.format.weights import Weights, find_weights, load_weights
from toolkit.options import parse_options
from toolkit_plugins.hyperprior.coder import Floats, HyperTables, Integers, ScaleTable
from toolkit_plugins.hyperprior.gaussian import GaussianModel, Latents, Prior
from toolkit_plugins.hyperprior.images import (
    extended,
    from_network,
    padded,
    synthesise,
    to_floats,
    to_network,
)
from toolkit_plugins.hyperprior.latent_codec import LatentCodec, LatentOptions
from toolkit_plugins.hyperprior.parameter_check import fixed_order

if TYPE_CHECKING:
    from collections.abc import Iterator

    from toolkit.codec.base import DecodeSettings, Pixels
    from toolkit.entropy_model.tiles import Tile
    from toolkit.format.container import Container

FOLDER = Path(__file__).parent / "weights"
_ENTROPY_MODELS = ("bottleneck.", "conditional.")
_LAYERS = 5
_RADIUS = 512
_TAIL = 1e-7
_UNIT = 2**16
_REFINEMENT = 2**27
"""Bytes that refinement takes beside all else."""
TILE = 1024
"""Longest side, in pixels, of the pieces that networks see."""


def scale_table() -> ScaleTable:
    """256 scales from 0.11 to 256, geometric, as multiples of 2^-16, so that every machine has
    the same. A scale is at most 1.5 % from its entry; with CompressAI's 64, rounded up, it is up
    to 13 %, which costs up to 0.01 bits a latent."""
    exact = np.geomspace(0.11, 256, 511)
    every = np.rint(exact * _UNIT) / _UNIT
    return ScaleTable(every[::2], every[1::2])


def factorized_tables(state: dict[str, Any]) -> HyperTables:
    """Counts, in 2^-16, of the integers under an ``EntropyBottleneck``'s density, in float64.

    ``state`` holds its matrices, biases and factors (Balle et al. 2018, appendix 6.1). A table
    ends where a tail holds less than 1e-7.
    """
    edges = np.arange(-_RADIUS, _RADIUS + 2) - 0.5
    with np.errstate(over="ignore"):  # far tails are 0
        cumulative = 1 / (1 + np.exp(-_logits(state, edges)))
    first, counts = [], []
    for channel in cumulative:
        low = max(0, int(np.searchsorted(channel, _TAIL, side="right")) - 1)
        high = max(low + 1, int(np.searchsorted(channel, 1 - _TAIL)))
        high = min(high, len(channel) - 1)
        mass = np.diff(channel[low : high + 1])
        first.append(min(low, len(channel) - 2) - _RADIUS)
        counts.append(np.maximum(np.rint(mass * _UNIT), 1).astype(np.int64))
    return HyperTables(first, counts)


def _logits(state: dict[str, Any], x: Floats) -> Floats:
    """Logits of the cumulative distributions, (C, len(x)), float64."""
    tensors = {key: value.double().numpy() for key, value in state.items()}
    matrices = [np.logaddexp(0, tensors[f"matrices.{i}"]) for i in range(_LAYERS)]
    values: NDArray[np.float64] = np.broadcast_to(x, (len(matrices[0]), 1, len(x)))
    for i, matrix in enumerate(matrices):
        values = matrix @ values + tensors[f"biases.{i}"]
        if i < _LAYERS - 1:
            values = values + np.tanh(tensors[f"factors.{i}"]) * np.tanh(values)
    return values[:, 0]


@lru_cache(maxsize=4)
def _networks(path: Path) -> tuple[Any, HyperTables, Weights]:
    """Networks and tables of a weights file. Raises what ``load_weights`` does, and UsageError
    for weights of another model."""
    from toolkit_plugins.hyperprior.model import HyperpriorNetworks, HyperpriorOptions

    weights = load_weights(path)
    if weights.model != "hyperprior":
        raise UsageError(f"{path}: weights of model '{weights.model}', not of 'hyperprior'")
    model = HyperpriorNetworks(parse_options(HyperpriorOptions, weights.options, str(path)))
    state = {k: v for k, v in weights.tensors.items() if not k.startswith(_ENTROPY_MODELS)}
    prefix = _ENTROPY_MODELS[0]
    density = {
        k.removeprefix(prefix): v for k, v in weights.tensors.items() if k.startswith(prefix)
    }
    try:
        model.load_state_dict(state)
        tables = factorized_tables(density)
    except (RuntimeError, KeyError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from None
    return model.eval().requires_grad_(False), tables, weights


class HyperpriorModel(GaussianModel):
    """The trained hyperprior at a rate in [0, 1]."""

    def __init__(self, path: Path, rate: float) -> None:
        import torch

        self.networks, self.tables, weights = _networks(path)
        self.fingerprint, self.objective = weights.fingerprint, weights.objective
        self.rate = rate
        self.scales = scale_table()
        self.blend = self.networks.blend(torch.tensor([rate]))
        blend64 = self.networks.blend(torch.tensor([rate], dtype=torch.float64))
        self._prior = copy.deepcopy(self.networks.hyper_synthesis).double(), blend64
        self._synthesis = _synthesis_at(self.networks, self.blend)

    def latents(self, rgb: Pixels) -> Latents:
        import torch

        from toolkit.entropy_model.tiles import gathered

        n = self.networks
        image = torch.from_numpy(extended(rgb, n.stride, n.least_side))

        def features(tile: Tile) -> torch.Tensor:
            piece = torch.from_numpy(to_floats(tile.crop(image).numpy()))
            return n.features(piece, self.blend)

        with fixed_order():
            pieces = ((tile, (features(tile),)) for tile in self._tiles(*image.shape[2:]))
            y, z = n.latents(*gathered(pieces), self.blend)
        return Latents(y[0].double().numpy(), self.tables.clip(z[0].round().numpy()))

    def _tiles(self, height: int, width: int) -> Iterator[Tile]:
        """Pieces of a padded picture, so that networks never see more than one: what they make of
        its inner part doesn't depend on where it was cut."""
        from toolkit.entropy_model.base import Size
        from toolkit.entropy_model.tiles import tiles

        return tiles(Size(1, height, width), self.networks.stride, TILE, self.networks.reach)

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of y."""
        n = self.networks
        rows, columns = (padded(side, n.stride, n.least_side) for side in (height, width))
        return rows // n.stride, columns // n.stride

    def hyper_shape(self, height: int, width: int) -> tuple[int, int, int]:
        rows, columns = self._grid(height, width)
        return len(self.tables.first), -(-rows // 4), -(-columns // 4)

    def prior(self, z: Integers, height: int, width: int) -> Prior:
        import torch

        rows, columns = self._grid(height, width)
        networks, blend = self._prior
        with fixed_order():
            mean, log_scale = networks(torch.from_numpy(z).double()[None], blend)
        mean, log_scale = (t[0, :, :rows, :columns].double().numpy() for t in (mean, log_scale))
        return Prior(mean, np.exp(np.clip(log_scale, -10, 10)))

    def refined(
        self,
        rgb: Pixels,
        y: Floats,
        prior: Prior,
        dither: Floats,
        width: float | None,
        steps: int,
        seed: int,
    ) -> Floats:
        """y of a picture, moved so that the objective of the weights falls.

        Arguments:
            dither: What will be added to the symbols, (C, h, w) or ().
            width: Of the noise, in steps of the quantizer, where a sample is sent; else None.
        """
        import torch

        from toolkit_plugins.hyperprior.refinement import (
            LatentRefinement,
            Picture,
            Rounded,
            Sampled,
        )

        n = self.networks
        x = torch.from_numpy(to_network(rgb, n.stride, n.least_side))
        scale = prior.scale if width else self.scales.scales[self.scales.indices(prior.scale)]
        start, mean, spread, offset = (
            torch.from_numpy(np.asarray(t, np.float32)) for t in (y, prior.mean, scale, dither)
        )
        picture = Picture(
            x, (rgb.shape[0], rgb.shape[1]), self.rate, lambda y: n.reconstruct(y, self.blend)
        )
        refinement = LatentRefinement(steps, self.objective, seed, picture)
        rate = Sampled(spread[None], width) if width else Rounded(spread[None], offset)
        return refinement.run(start[None], mean[None], rate)[0].double().numpy()

    def picture(
        self, y: Floats, height: int, width: int, precision: str = "float32", threads: int = 1
    ) -> Pixels:
        import torch

        from toolkit.entropy_model.tiles import trim

        latent, stride = torch.from_numpy(y).float()[None], self.networks.stride
        rows, columns = (stride * cells for cells in latent.shape[2:])
        shown = np.empty((rows, columns, 3), np.uint8)
        for tile in self._tiles(rows, columns):
            image = synthesise(self._synthesis, tile.crop(latent), precision, threads)
            (top, bottom), (left, right) = tile.inner
            inner = tile.count(torch.from_numpy(image)).numpy()
            inner = from_network(inner, bottom - top, right - left)
            shown[top:bottom, left:right] = inner
            del image, inner
            trim()
        return np.ascontiguousarray(shown[:height, :width])


def _synthesis_at(networks: Any, blend: Any) -> Any:
    """``networks.reconstruct`` at one rate, as a module of its own."""
    import torch

    class Synthesis(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.networks = networks
            self.register_buffer("blend", blend)

        def forward(self, y: Any) -> Any:
            return self.networks.reconstruct(y, self.blend)

    return Synthesis()


class HyperpriorCodecOptions(LatentOptions, frozen=True):
    """Options of the ``hyperprior`` codec."""

    weights: str = "hyperprior"
    """Shipped weights by name, or a path to a .safetensors file."""
    refinement_steps: Annotated[int, Meta(ge=0, le=10000)] = 0
    """Steps that refine the latents of each picture before they are coded. Encoder only: files
    don't say it, decoders take no longer."""


@lru_cache(maxsize=8)
def _at_rate(path: Path, rate: float) -> HyperpriorModel:
    return HyperpriorModel(path, rate)


class HyperpriorCodec(LatentCodec):
    """The hyperprior trained as the PLN was; by default its latents are rounded."""

    options_class = HyperpriorCodecOptions
    pixel_bytes = (150, 120)

    @property
    def weights(self) -> Path:
        """The weights file. Raises MissingError."""
        return find_weights(self.options.weights, FOLDER)

    def model(self, point: float) -> GaussianModel:
        return _at_rate(self.weights, point)

    def memory(self, height: int, width: int, *, encoding: bool = False) -> int:
        refined = encoding and self.options.refinement_steps > 0
        return super().memory(height, width, encoding=encoding) + (_REFINEMENT if refined else 0)

    def refine(self, model: GaussianModel, rgb: Pixels, y: Floats, prior: Prior) -> Floats:
        """y after ``refinement_steps`` steps."""
        o = self.options
        if not o.refinement_steps:
            return y
        assert isinstance(model, HyperpriorModel)
        width = o.width if o.coding == "sampled" else None
        dither = self.dither(y.shape)
        return model.refined(rgb, y, prior, dither, width, o.refinement_steps, o.seed)

    def identity(self) -> dict[str, Any]:
        weights = load_weights(self.weights).fingerprint.hex()
        return {**super().identity(), "weights": weights}

    def model_of_file(
        self, container: Container, point: float, settings: DecodeSettings
    ) -> GaussianModel:
        own = self.options.weights
        own = "" if own == HyperpriorCodecOptions().weights else own
        return _at_rate(weights_of_file(container, settings, own, FOLDER).path, point)
