"""Makes the golden files that aren't there yet.

Run from the folder ``tests``: PYTHONPATH=support python golden/pln/make.py
"""

import json
import struct
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))
LEVELS = {
    "trellis": {"default": {"sampler": "trellis", "refine": True}},
    "isgs": {"level2": {"sampler": "importance"}, "default": {"sampler": "greedy"}},
}
SAMPLERS = (
    "importance", "greedy", "irec", "ordered", "poisson", "rejection", "harsha", "astar",
)  # fmt: skip
OF_SAMPLERS = (("RGB", (1, 1)), ("L", (17, 31)), ("RGBA", (33, 65)))
LARGE = (("RGB", (129, 255)), ("RGBA", (129, 255)), ("L", (512, 768)))
"""Of the size of a Kodak picture, the last."""
PICTURES = (("RGB", (1, 1)), ("L", (17, 31)), ("RGBA", (64, 64)), ("RGB", (65, 130)))
OPTIONS = {
    "widths": [3, 4, 4],
    "level1_channels": 6,
    "level2_width": 4,
    "level2_channels": 3,
    "knots": 2,
}


def make_weights(path):
    import torch
    from safetensors.torch import save

    from toolkit.format.tensors import pack
    from toolkit.options import parse_options
    from toolkit_plugins.pln.model import PLN, PLNOptions

    torch.manual_seed(1)
    model = PLN(parse_options(PLNOptions, OPTIONS, "golden"))
    metadata = {"model": "pln", "options": json.dumps(OPTIONS), "objective": "{}"}
    path.write_bytes(save(pack(model.state_dict()), metadata))


def metadata(icc):
    """EXIF with a camera's name, a profile, a resolution."""
    from toolkit.codec.metadata import Metadata

    name = b"Camera & Sons\0"
    exif = struct.pack("<4sIHHHIII", b"II*\0", 8, 1, 0x10F, 2, len(name), 26, 0) + name
    return Metadata(exif, icc, (300.0, 150.0))


def main():
    from golden_files import write_golden

    weights = HERE / "weights.safetensors"
    if not weights.exists():
        make_weights(weights)
    cases = {name: {"weights": str(weights), "levels": by} for name, by in LEVELS.items()}
    write_golden(HERE, "pln", cases, PICTURES, 0.7)
    write_golden(HERE, "pln", {"trellis": cases["trellis"]}, LARGE, 0.7)
    isgs = cases["isgs"]
    write_golden(HERE, "pln", {"metadata": isgs}, (("L", (17, 31)),), 0.7, metadata(icc=b""))
    profile = (HERE / "profile.icc").read_bytes()
    write_golden(HERE, "pln", {"metadata": isgs}, (("RGBA", (33, 65)),), 0.7, metadata(profile))
    cases = {
        name: {"weights": str(weights), "levels": {"default": {"sampler": name}}}
        for name in SAMPLERS
    }
    write_golden(HERE, "pln", cases, OF_SAMPLERS, 0.7)


if __name__ == "__main__":
    main()
