"""Metrics that are networks: LPIPS and DISTS, by their authors' packages.

Both look at features of a network trained on ImageNet, whose weights torchvision keeps in torch's
cache. Nothing is fetched here: what is missing is said before a run begins.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import MissingError

if TYPE_CHECKING:
    import torch

    from toolkit.codec.base import Pixels

    Network = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

LEAST_SIDE = 32
"""Pixels a side that the networks' strides need; smaller images give NaN."""


@dataclass(frozen=True)
class Perceptual:
    """A distance of two images by a network; 0 for equal images."""

    name: str
    backbone: str
    """The network as torchvision calls it."""
    weights: str
    """The file that torchvision keeps its weights in."""
    build: Callable[[], Network]
    low: float
    """Pixel value 0, as the network takes it; 255 is 1."""

    def prepare(self) -> None:
        """Raises MissingError where weights are missing or the package can't be used."""
        import torch

        folder = Path(torch.hub.get_dir()) / "checkpoints"
        if not (folder / self.weights).is_file():
            raise MissingError(
                f"metric '{self.name}' needs torchvision's weights of {self.backbone}: "
                f'{self.weights} in {folder} (python -c "import torchvision; '
                f"torchvision.models.{self.backbone}(weights='IMAGENET1K_V1')\" fetches them)"
            )
        _ = self.network

    @cached_property
    def network(self) -> Network:
        """The network, loaded once. Raises MissingError."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # both use torchvision's older arguments
                return self.build()
        except Exception as error:  # whatever a broken installation or weights file raises
            text = " ".join(str(error).split())
            raise MissingError(f"metric '{self.name}' can't be used: {text}") from error

    def __call__(self, original: Pixels, decoded: Pixels) -> float:
        """The distance of two uint8 images (H, W, 3); NaN under 32 pixels a side."""
        import torch

        if min(original.shape[:2]) < LEAST_SIDE:
            return math.nan
        with torch.inference_mode():
            return float(self.network(self._tensor(original), self._tensor(decoded)))

    def _tensor(self, pixels: Pixels) -> torch.Tensor:
        import torch

        planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float()[None]
        return planes * ((1 - self.low) / 255) + self.low


def _lpips() -> Network:
    package: Any = importlib.import_module("lpips")
    network: Network = package.LPIPS(net="alex", verbose=False).eval()
    return network


def _dists() -> Network:
    """Its package looks for its own weights where only some installers put them."""
    import torch

    package: Any = importlib.import_module("DISTS_pytorch")
    network = package.DISTS(load_weights=False).eval()
    weights = torch.load(Path(package.__file__).with_name("weights.pt"), weights_only=True)
    network.load_state_dict(weights, strict=False)
    return network


lpips = Perceptual("lpips", "alexnet", "alexnet-owt-7be5be79.pth", _lpips, low=-1.0)
"""LPIPS 0.1 on AlexNet's features (Zhang et al. 2018), images in [-1, 1]."""
dists = Perceptual("dists", "vgg16", "vgg16-397923af.pth", _dists, low=0.0)
"""DISTS on VGG-16's features (Ding et al. 2020), images in [0, 1], not resized."""
