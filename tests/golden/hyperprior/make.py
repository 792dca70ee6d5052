"""Makes the golden files that aren't there yet; those that are stay as they are for good.

Run from the folder ``tests``: python golden/hyperprior/make.py
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))
CASES = [
    (coding, mode, size)
    for coding in ("quantized", "dithered", "sampled")
    for mode, size in (("RGB", (1, 1)), ("L", (17, 31)), ("RGBA", (64, 64)), ("RGB", (65, 130)))
]
OPTIONS = {
    "widths": [3, 4, 4],
    "latent_channels": 4,
    "hyper_width": 4,
    "hyper_channels": 3,
    "knots": 2,
}


def make_weights(path):
    import torch
    from safetensors.torch import save

    from toolkit.options import parse_options
    from toolkit.training.export import packed
    from toolkit_plugins.compressai.hyperprior import Hyperprior, HyperpriorOptions

    torch.manual_seed(1)
    model = Hyperprior(parse_options(HyperpriorOptions, OPTIONS, "golden"))
    with torch.no_grad():
        model.analysis.last.weight.mul_(6)  # untrained, it would round all to zero
        model.synthesis.last.conv.weight.mul_(0.1)
    metadata = {"model": "hyperprior", "options": json.dumps(OPTIONS), "objective": "{}"}
    path.write_bytes(save(packed(model.state_dict()), metadata))


def main():
    from random_models import picture

    from toolkit.options import parse_options
    from toolkit.plugins import load_plugins

    weights = HERE / "weights.safetensors"
    if not weights.exists():
        make_weights(weights)
    plugins = load_plugins()
    spec = plugins.codec("hyperprior")
    for coding, mode, size in CASES:
        path = HERE / f"{coding}-{mode}-{size[0]}x{size[1]}.qf"
        if path.exists():
            continue
        values = {"weights": str(weights), "coding": coding, "seed": 5}
        codec = spec.loaded(spec, parse_options(spec.loaded.options_class, values, ""), plugins)
        pixels = picture(*size, seed=3, channels={"L": 1, "RGB": 3, "RGBA": 4}[mode])
        encoded = codec.encode(pixels, 0.7)
        path.write_bytes(encoded.data)
        shown = (
            np.squeeze(encoded.reconstruction, axis=2) if mode == "L" else encoded.reconstruction
        )
        Image.fromarray(shown).save(path.with_suffix(".png"))


if __name__ == "__main__":
    main()
