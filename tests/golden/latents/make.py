"""Makes the golden files that aren't there yet.

Run from the folder ``tests``: PYTHONPATH=support python golden/latents/make.py
"""

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))
ARCHITECTURE = "mbt2018-mean"
CODINGS = ("quantized", "dithered", "sampled")
PICTURES = (("RGB", (1, 1)), ("L", (17, 31)), ("RGBA", (65, 70)))


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
    from golden_files import write_golden

    weights = HERE / "weights.safetensors"
    if not weights.exists():
        make_weights(weights)
    whole = str(with_tables(weights))
    cases = {coding: {"weights": whole, "coding": coding} for coding in CODINGS}
    write_golden(HERE, "latents", cases, PICTURES, 3)


if __name__ == "__main__":
    main()
