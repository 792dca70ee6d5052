"""A Bayesian network's weights in about a kilobyte: train Gaussians over them, send a sample.

    python examples/library/bayesian_network.py

What MIRACLE does (Havasi, Peharz, Hernandez-Lobato 2019, "Minimal random code learning"), with
``encode_gaussians``: a posterior N(mean, scale^2) over every weight is trained with the loss
cross-entropy + KL[q || p], and a sample of it takes about KL bits to send, whatever the precision
of the weights. The task: digits drawn with Pillow's own font, turned, moved and noisy.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from toolkit.sampling import decode_gaussians, encode_gaussians

SIDE = 16


def digits(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures (count, SIDE^2) of digits, and which they are (count,)."""
    random = np.random.default_rng(seed)
    labels, pictures = random.integers(0, 10, count), np.empty((count, SIDE, SIDE), np.float32)
    for k, label in enumerate(labels):
        canvas = Image.new("L", (SIDE, SIDE))
        font = ImageFont.load_default(float(random.uniform(11, 15)))
        place = tuple(SIDE / 2 + random.uniform(-1.5, 1.5, 2))
        ImageDraw.Draw(canvas).text(place, str(label), fill=255, font=font, anchor="mm")
        turned = canvas.rotate(random.uniform(-15, 15), Image.Resampling.BILINEAR)
        pictures[k] = np.asarray(turned) / 255 + random.normal(0, 0.1, (SIDE, SIDE))
    return torch.from_numpy(pictures.reshape(count, -1)), torch.from_numpy(labels)


class BayesianLayer(nn.Module):
    """A linear layer, weights (inputs + 1, outputs); prior N(0, s^2), s trained with the rest."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.randn(inputs + 1, outputs) / inputs**0.5)
        self.log_scale = nn.Parameter(torch.full((inputs + 1, outputs), -3.0))
        self.log_prior = nn.Parameter(torch.tensor(-2.0))

    def kl_nats(self) -> Tensor:
        r = torch.exp(self.log_scale - self.log_prior)
        d = self.mean * torch.exp(-self.log_prior)
        return 0.5 * (d * d + r * r - 1 - 2 * torch.log(r)).sum()

    def sample(self) -> Tensor:
        return self.mean + torch.exp(self.log_scale) * torch.randn_like(self.mean)


def logits(x: Tensor, weights: list[Tensor]) -> Tensor:
    """What a network with these weights says of pictures."""
    for k, w in enumerate(weights):
        x = (F.relu(x) if k else x) @ w[:-1] + w[-1]
    return x


def train(layers: list[BayesianLayer], x: Tensor, y: Tensor, steps: int, beta: float) -> None:
    """``beta`` below 1 takes more bits for a better fit; KL counts fully from half-way on."""
    optimiser = torch.optim.Adam([p for layer in layers for p in layer.parameters()], 5e-3)
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, steps)
    for step in range(steps):
        batch = torch.randint(len(x), (200,))
        misfit = F.cross_entropy(logits(x[batch], [layer.sample() for layer in layers]), y[batch])
        weight = beta * min(1.0, 2 * step / steps) / len(x)
        loss = misfit + weight * sum(layer.kl_nats() for layer in layers)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()


def encode(layer: BayesianLayer) -> bytes:
    """The prior's scale (4 bytes), then a sample of the posterior."""
    prior = layer.log_prior.detach().exp().numpy().astype("<f4")
    return prior.tobytes() + encode_gaussians(layer.mean, layer.log_scale.exp(), 0, prior)


def decode(data: bytes) -> Tensor:
    """A layer's weights."""
    return torch.from_numpy(decode_gaussians(data[4:], 0, np.frombuffer(data[:4], "<f4")))


def main() -> dict[str, float]:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--pictures", type=int, default=20000)
    parser.add_argument("--beta", type=float, default=1.0)
    given = parser.parse_args()
    torch.manual_seed(0)
    layers = [BayesianLayer(SIDE**2, 64), BayesianLayer(64, 10)]
    train(layers, *digits(given.pictures, seed=0), given.steps, given.beta)
    coded = [encode(layer) for layer in layers]
    with torch.no_grad():
        nets = {
            "means": [layer.mean for layer in layers],
            "plain sample": [layer.sample() for layer in layers],
            "coded sample": [decode(data) for data in coded],
        }
        kl = float(sum(layer.kl_nats() for layer in layers)) / np.log(2)
    x, y = digits(2000, seed=1)
    right = {
        name: 100 * float((logits(x, w).argmax(1) == y).float().mean()) for name, w in nets.items()
    }
    count, sent = sum(layer.mean.numel() for layer in layers), 8 * sum(map(len, coded))
    print(f"{count} weights: {4 * count} bytes as float32, {sent // 8} as a coded sample")
    print(f"{sent} bits, {sent / count:.3f} a weight; KL {kl:.0f} bits")
    print("accuracy: " + ", ".join(f"{name} {value:.1f} %" for name, value in right.items()))
    return {"bits": sent, "kl": kl, "weights": count, **right}


if __name__ == "__main__":
    main()
