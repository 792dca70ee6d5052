"""Latents of a CompressAI model as coded samples, beside the same model that rounds them.

    python examples/library/compressai_latents.py [--images FOLDER]

Two small mean-scale hyperprior models are trained with the same data, steps and loss: one as
CompressAI has it, one with ``code_samples``, the only line in which they differ. Both then
compress pictures that neither has seen, with CompressAI's own ``compress`` and ``decompress``.
"""

from __future__ import annotations

import argparse
import math
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from toolkit_plugins.compressai.sampled import code_samples
from toolkit_plugins.compressai.upstream import submodule


def synthetic(count: int, side: int, seed: int) -> Tensor:
    """Pictures (count, 3, side, side) in [0, 1]: waves, edges and a little noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / 128
    pictures = np.empty((count, 3, side, side))
    for picture in pictures:
        waves = [np.sin(a * x + b * y + c) for a, b, c in random.normal(0, 6, (3, 3))]
        a, b, c = random.normal(0, 1, 3)
        edge = (a * (x - 0.5) + b * (y - 0.5) > 0.2 * c)[None] * random.normal(0, 0.3, (3, 1, 1))
        picture[:] = 0.5 + 0.2 * np.stack(waves) + edge + random.normal(0, 0.02, picture.shape)
    return torch.from_numpy(pictures.clip(0, 1)).float()


def crops(folder: Path, count: int, side: int, seed: int) -> Tensor:
    """Random crops (count, 3, side, side) in [0, 1] of a folder's pictures: of every second one
    for seed 0, of the others for seed 1."""
    random = np.random.default_rng(seed)
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg"))
    files = files[seed::2]
    found = []
    for _ in range(count):
        with Image.open(files[random.integers(len(files))]) as image:
            left, top = (int(random.integers(max(1, full - side + 1))) for full in image.size)
            box = (left, top, left + side, top + side)
            found.append(np.asarray(image.convert("RGB").crop(box), np.float32) / 255)
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).contiguous()


def train(model: torch.nn.Module, pictures: Tensor, steps: int, weight: float) -> None:
    """Bits per pixel + weight * 255^2 * MSE, as CompressAI trains; 64 x 64 crops, 8 a step."""
    main = [p for name, p in model.named_parameters() if not name.endswith(".quantiles")]
    optimiser = torch.optim.Adam(main, 3e-3)
    tables = torch.optim.Adam([model.entropy_bottleneck.quantiles], 1e-2)
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, steps)
    for _ in range(steps):
        at = torch.randint(pictures.shape[3] - 64 + 1, (2,)).tolist()
        batch = pictures[torch.randint(len(pictures), (8,))]
        x = batch[:, :, at[0] : at[0] + 64, at[1] : at[1] + 64]
        out = model(x)
        bits = sum(-torch.log2(p).sum() for p in out["likelihoods"].values())
        loss = bits * 3 / x.numel() + weight * 255**2 * F.mse_loss(out["x_hat"], x)
        for one in (optimiser, tables):
            one.zero_grad()
        (loss + model.aux_loss()).backward()
        torch.nn.utils.clip_grad_norm_(main, 1.0)
        optimiser.step()
        tables.step()
        decay.step()
    model.eval().update(force=True)


def measure(model: torch.nn.Module, x: Tensor, weight: float) -> dict[str, float]:
    """Bits per pixel of y and z as sent, of y as ``forward`` estimates it, PSNR, and the loss."""
    pixels = x.numel() / 3
    with torch.no_grad():
        coded = model.compress(x)
        x_hat = model.decompress(coded["strings"], coded["shape"])["x_hat"]
        estimate = float(-torch.log2(model(x)["likelihoods"]["y"]).sum()) / pixels
    y, z = (8 * sum(map(len, strings)) / pixels for strings in coded["strings"])
    error = float(F.mse_loss(x_hat, x))
    loss = y + z + weight * 255**2 * error
    return {"y": y, "z": z, "estimate": estimate, "psnr": -10 * math.log10(error), "loss": loss}


def main() -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="a folder of pictures; else synthetic ones")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--weight", type=float, default=0.01)
    given = parser.parse_args()
    make = synthetic if given.images is None else partial(crops, given.images)
    pictures, unseen = make(200, 128, 0), make(8, 256, 1)
    results = {}
    for name in ("rounded", "sampled"):
        torch.manual_seed(0)
        model = submodule("models").MeanScaleHyperprior(16, 24)
        if name == "sampled":
            code_samples(model)
        train(model, pictures, given.steps, given.weight)
        r = results[name] = measure(model, unseen, given.weight)
        print(
            f"{name}: y {r['y']:.3f} bpp ({r['estimate']:.3f} by forward), z {r['z']:.3f} bpp, "
            f"PSNR {r['psnr']:.2f} dB, loss {r['loss']:.3f}"
        )
    return results


if __name__ == "__main__":
    main()
