"""What plugin authors need, in one import; each name is loaded when it is first used.

::

    from toolkit.plugin import Sampler, CodedSample, SamplerSpec, hookimpl

Type checkers read ``__init__.pyi`` beside this file; a test holds the two together.
"""

from __future__ import annotations

import importlib
from typing import Any

_PLACES = {
    "toolkit.codec.base": ("Codec", "Decoded", "DecodeSettings", "Encoded", "as_pixels"),
    "toolkit.codec.container_codec": ("ContainerCodec", "Payload"),
    "toolkit.entropy_model.base": (
        "Gaussian",
        "LadderModel",
        "Level",
        "Size",
        "State",
        "product_of_gaussians",
        "standard_prior",
        "standardised",
    ),
    "toolkit.errors": ("InputError", "MissingError", "UsageError"),
    "toolkit.format.container": ("BadStream", "Container", "Stream"),
    "toolkit.options": ("Options",),
    "toolkit.plugin.hookspecs": ("hookimpl",),
    "toolkit.plugin.specs": (
        "CodecSpec",
        "EntropyModelSpec",
        "MetricSpec",
        "PresetFile",
        "RateParameter",
        "SamplerSpec",
    ),
    "toolkit.sampling.contract": ("CodedSample", "Sampler", "kl_bits"),
    "toolkit.sampling.randomness": ("SharedRandom",),
    "toolkit.training.objective": ("TrainingPass",),
}
_PLACE_OF = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _PLACE_OF:
        raise AttributeError(f"module 'toolkit.plugin' has no attribute '{name}'")
    return getattr(importlib.import_module(_PLACE_OF[name]), name)
