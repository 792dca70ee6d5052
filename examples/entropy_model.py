"""An entropy model: a small ladder of three levels. Trains in a minute, codes, decodes anywhere.

    toolkit train --plugin examples/entropy_model.py examples/tiny.yaml --out runs/tiny
    toolkit eval --plugin examples/entropy_model.py --codec tiny \
        -o weights=runs/tiny/tiny.safetensors photos
"""

import torch
import torch.nn.functional as F
from torch import nn

from toolkit.plugin import (
    EntropyModelSpec,
    Gaussian,
    LadderModel,
    Level,
    Options,
    hookimpl,
    product_of_gaussians,
)


@hookimpl
def toolkit_entropy_models():
    yield EntropyModelSpec("tiny", "residual ladder of three levels", f"{__name__}:Tiny")


class TinyOptions(Options, frozen=True):
    width: int = 48
    channels: tuple[int, ...] = (8, 16, 24)  # of each level's latents, top first


class Tiny(LadderModel):
    """All levels at stride 8; each adds what it knows to one map, h, which makes the next level's
    prior and in the end the image."""

    options_class = TinyOptions
    stride = 8
    reach = 32

    def __init__(self, options):
        super().__init__(options)
        width, channels = options.width, options.channels
        self.depth = len(channels)
        self.first = nn.Parameter(torch.randn(width))
        self.into = nn.Sequential(conv(192, width), nn.LeakyReLU(0.2), conv(width, width))
        self.priors = nn.ModuleList(conv(width, 2 * c) for c in channels)
        self.encoders = nn.ModuleList(conv(2 * width, 2 * c) for c in channels)
        self.adds = nn.ModuleList(conv(c, width) for c in channels)
        self.mixes = nn.ModuleList(conv(width, width) for _ in channels)
        self.out = conv(width, 192)

    def analyse(self, x, rate):
        return (self.into(4 * F.pixel_unshuffle(x, 8) - 2),)

    def start(self, size, rate):
        sides = size.height // 8, size.width // 8
        return (self.first[:, None, None].expand(size.batch, -1, *sides),)

    def level(self, index, state, features, rate):
        mean, log_scale = self.priors[index](state[0]).float().chunk(2, 1)
        prior = Gaussian(mean, log_scale.clamp(-6, 6))
        if features is None:
            return Level(prior)
        known = self.encoders[index](torch.cat([*features, *state], 1))
        mean, log_scale = known.float().chunk(2, 1)
        log_scale = log_scale - 1 - 2.5 * rate[:, None, None, None]  # higher rates: sharper
        return Level(prior, product_of_gaussians(Gaussian(mean, log_scale), prior))

    def descend(self, index, state, z, rate):
        h = state[0] + self.adds[index](z)
        return (h + self.mixes[index](F.leaky_relu(h, 0.2)),)

    def reconstruct(self, state, rate):
        return F.pixel_shuffle(self.out(state[0]).float(), 8) / 4 + 0.5


def conv(inputs, outputs):
    """3x3, of the same size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)
