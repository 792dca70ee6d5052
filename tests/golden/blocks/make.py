"""Makes the golden streams that aren't there yet; those that are stay as they are for good.

Run from the folder ``tests``: PYTHONPATH=support python golden/blocks/make.py
"""

import hashlib
import json
from pathlib import Path

from toolkit.plugin.loader import load_plugins
from toolkit.sampling.choice import SamplerChoice
from toolkit.sampling.randomness import SharedRandom
from toolkit_evaluation.data.synthetic import synthetic_level

HERE = Path(__file__).parent
SAMPLERS = {
    "importance": {"sampler": "importance"},
    "importance-sampled": {"sampler": "importance", "bits": 9, "slack": 2, "choice": "sampled"},
    "importance-sent": {"sampler": "importance", "bits": 14, "width": 16, "blocks": "sent"},
    "greedy": {"sampler": "greedy"},
    "greedy-thesis": {
        "sampler": "greedy", "steps": 30, "bits": 9, "score": "final", "shards": "equal",
        "rate": 1.0, "blocks": "sent",
    },
    "irec": {"sampler": "irec"},
    "ordered": {"sampler": "ordered"},
    "poisson": {"sampler": "poisson", "bits": 10},
    "rejection": {"sampler": "rejection"},
    "harsha": {"sampler": "harsha"},
    "astar": {"sampler": "astar"},
}  # fmt: skip
SHAPES = {"one": (1, 1, 1), "odd": (3, 5, 7), "level": (16, 12, 18), "far": (4, 8, 8)}
WIDE = {"wide": (8, 20, 20)}
"""For samplers that send proposals for parts of a target."""


def main():
    plugins = load_plugins()
    for name, options in SAMPLERS.items():
        shapes = SHAPES | WIDE if name in ("harsha", "astar") else SHAPES
        for label, shape in shapes.items():
            path = HERE / f"{name}-{label}.json"
            if path.exists():
                continue
            d, r = synthetic_level(shape, seed=len(label))
            if label == "far":
                d *= 6
            if label == "wide":
                d, r = 2 * d, 1.5 * r
            sampler = SamplerChoice.from_options(plugins, options, name).build()
            coded = sampler.encode(d, r, SharedRandom(7, 1))
            case = {
                "options": options,
                "shape": shape,
                "data": coded.data.hex(),
                "values": hashlib.sha256(coded.values.tobytes()).hexdigest(),
            }
            path.write_text(json.dumps(case, indent=1) + "\n")


if __name__ == "__main__":
    main()
