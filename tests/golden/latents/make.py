"""Makes the golden files that aren't there yet; those that are stay as they are for good.

Run from the folder ``tests``: python golden/latents/make.py
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))
ARCHITECTURE = "mbt2018-mean"
CASES = [
    (coding, mode, size)
    for coding in ("quantized", "dithered", "sampled")
    for mode, size in (("RGB", (1, 1)), ("L", (17, 31)), ("RGBA", (65, 70)))
]


def make_weights(path):
    """Without tables of scales: they are 800 kB, and ``latents`` doesn't use them."""
    from random_models import random_model
    from safetensors.torch import save_file

    model = random_model(ARCHITECTURE, seed=4)
    model.update()
    state = {
        key: value.contiguous()
        for key, value in model.state_dict().items()
        if not key.startswith("gaussian_conditional._")  # scale_table stays
    }
    save_file(state, path, metadata={"architecture": ARCHITECTURE})


def with_tables(weights):
    """The file with empty tables, from which CompressAI makes its own."""
    import torch
    from safetensors.torch import load_file, save_file

    state = load_file(weights)
    for name in ("_offset", "_quantized_cdf", "_cdf_length"):
        state[f"gaussian_conditional.{name}"] = torch.IntTensor()
    path = Path(tempfile.mkdtemp()) / weights.name
    save_file(state, path, metadata={"architecture": ARCHITECTURE})
    return path


def main():
    from random_models import picture

    from toolkit.options import parse_options
    from toolkit.plugins import load_plugins

    weights = HERE / "weights.safetensors"
    if not weights.exists():
        make_weights(weights)
    plugins = load_plugins()
    spec = plugins.codec("latents")
    whole = with_tables(weights)
    for coding, mode, size in CASES:
        path = HERE / f"{coding}-{mode}-{size[0]}x{size[1]}.qf"
        if path.exists():
            continue
        values = {"weights": str(whole), "coding": coding, "seed": 5}
        codec = spec.loaded(spec, parse_options(spec.loaded.options_class, values, ""), plugins)
        pixels = picture(*size, seed=3, channels={"L": 1, "RGB": 3, "RGBA": 4}[mode])
        encoded = codec.encode(pixels, 3)
        path.write_bytes(encoded.data)
        shown = encoded.reconstruction
        Image.fromarray(np.squeeze(shown, axis=2) if mode == "L" else shown).save(
            path.with_suffix(".png")
        )


if __name__ == "__main__":
    main()
