"""Makes the golden files that aren't there yet.

Run from the folder ``tests``: PYTHONPATH=support python golden/hyperprior/make.py
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))
CODINGS = ("quantized", "dithered", "sampled")
PICTURES = (("RGB", (1, 1)), ("L", (17, 31)), ("RGBA", (64, 64)), ("RGB", (65, 130)))
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

    from toolkit.format.tensors import pack
    from toolkit.options import parse_options
    from toolkit_plugins.hyperprior.model import Hyperprior, HyperpriorOptions

    torch.manual_seed(1)
    model = Hyperprior(parse_options(HyperpriorOptions, OPTIONS, "golden"))
    with torch.no_grad():
        model.analysis.last.weight.mul_(6)  # untrained, it would round all to zero
        model.synthesis.last.conv.weight.mul_(0.1)
    metadata = {"model": "hyperprior", "options": json.dumps(OPTIONS), "objective": "{}"}
    path.write_bytes(save(pack(model.state_dict()), metadata))


def main():
    from golden_files import write_golden

    weights = HERE / "weights.safetensors"
    if not weights.exists():
        make_weights(weights)
    cases = {coding: {"weights": str(weights), "coding": coding} for coding in CODINGS}
    write_golden(HERE, "hyperprior", cases, PICTURES, 0.7)


if __name__ == "__main__":
    main()
