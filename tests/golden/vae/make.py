"""Makes the golden files that aren't there yet.

Run from the folder ``tests``: PYTHONPATH=support python golden/vae/make.py
"""

import json
from pathlib import Path

HERE = Path(__file__).parent
CASES = {
    "trellis": {"default": {"sampler": "trellis", "refine": True}},
    "isgs": {"default": {"sampler": "greedy"}},
}
PICTURES = (("RGB", (1, 1)), ("L", (17, 31)), ("RGBA", (64, 64)), ("RGB", (129, 255)))
OPTIONS = {"widths": [3, 4, 4], "level1_channels": 6, "knots": 2}


def make_weights(path):
    import torch
    from safetensors.torch import save

    from toolkit.format.tensors import pack
    from toolkit.options import parse_options
    from toolkit_plugins.pln.vae import VAE, VAEOptions

    torch.manual_seed(1)
    model = VAE(parse_options(VAEOptions, OPTIONS, "golden"))
    metadata = {"model": "vae", "options": json.dumps(OPTIONS), "objective": "{}"}
    path.write_bytes(save(pack(model.state_dict()), metadata))


def main():
    from golden_files import write_golden

    weights = HERE / "weights.safetensors"
    if not weights.exists():
        make_weights(weights)
    cases = {name: {"weights": str(weights), "levels": levels} for name, levels in CASES.items()}
    write_golden(HERE, "vae", cases, PICTURES, 0.7)


if __name__ == "__main__":
    main()
