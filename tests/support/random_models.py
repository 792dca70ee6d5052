"""CompressAI's architectures, small and with random weights that give lively latents."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SIZES = {
    "bmshj2018-factorized": {"N": 6, "M": 9},
    "bmshj2018-hyperprior": {"N": 6, "M": 9},
    "mbt2018-mean": {"N": 6, "M": 8},
    "mbt2018": {"N": 6, "M": 9},
    "cheng2020-anchor": {"N": 6},
    "cheng2020-attn": {"N": 6},
    "bmshj2018-hyperprior-vbr": {"N": 6, "M": 9, "vr_entbttlnck": True},
    "mbt2018-mean-vbr": {"N": 6, "M": 8, "vr_entbttlnck": True},
    "mbt2018-vbr": {"N": 6, "M": 9},
}


def random_model(architecture, seed=0):
    """A model in evaluation mode, its tables not computed yet.

    The analysis is scaled until its latents spread over several steps of the quantizer; fresh
    weights would round everything to zero.
    """
    import torch

    from toolkit_plugins.compressai.checkpoints import model_class

    torch.manual_seed(seed)
    model = model_class(architecture)(**SIZES[architecture]).eval().requires_grad_(False)
    x = torch.from_numpy(picture(64, 64, seed).transpose(2, 0, 1)[None].astype(np.float32) / 255)
    for _ in range(40):
        y = model.g_a(x)
        z = model.h_a(y) if hasattr(model, "h_a") else y
        if min(float(y.std()), float(z.std()) * 2) > 3:
            _last_bias(model.g_s).add_(0.5)  # a mid-grey picture
            if hasattr(model, "h_s"):  # z within its tables, scales about as wide as the latents
                for last in [*model.h_a.parameters()][-2:]:
                    last.mul_(min(1, 2 / float(z.abs().max())))
                _last_bias(getattr(model, "entropy_parameters", model.h_s))[: model.M].add_(3)
            return model
        for part in (model.g_a, getattr(model, "h_a", model.g_a)):
            if float(part(x if part is model.g_a else y).std()) < 3:
                for kernel in part.parameters():
                    if kernel.ndim == 4:
                        kernel.mul_(1.15)
    raise AssertionError("latents stay small")


def _last_bias(part):
    return [p for p in part.parameters() if p.ndim == 1][-1]


def picture(height, width, seed=0, channels=3):
    """A smooth picture with some noise, uint8 (height, width, channels)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 40
    waves = [np.sin(x * a + y * b + c) for a, b, c in rng.normal(0, 2, (channels, 3))]
    noisy = 128 + 90 * np.stack(waves, -1) + rng.normal(0, 8, (height, width, channels))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def weights_file(folder: Path, architecture, seed=0) -> Path:
    """A safetensors file of ``random_model``."""
    from toolkit_plugins.compressai.checkpoints import save_checkpoint

    path = folder / f"{architecture}-random{seed}.safetensors"
    if not path.exists():
        save_checkpoint(random_model(architecture, seed), architecture, path)
    return path
