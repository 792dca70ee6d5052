"""How tensors of a model lie in its weights file.

Large convolution kernels are int8, each k x k slice over its own scale (float16, the tensor
``NAME:scale``); other large tensors are float16, small ones as they are. Against float16 for all
that is large, it saves two fifths of the bytes and moves a picture by less than 0.01 dB
(docs/training.md). A rate-distortion model's first and last convolutions and its divisive
normalisations are small, and stay finer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SCALE = ":scale"
SMALL = 4096
"""Tensors with fewer elements stay as they are: they cost little, and gains and biases reach all
positions."""
LARGE = 65_536
"""Convolution kernels with as many elements are int8."""
LEVELS = 127
LEAST_SCALE = 2.0**-24
"""float16's smallest step: slices that need a finer one are zeros to any picture."""


def pack(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file, contiguous, from a model's floating-point and integer tensors."""
    tensors = {}
    for key, value in state.items():
        value = value.detach().cpu()
        if value.ndim == 4 and value.numel() >= LARGE and value.shape[2] * value.shape[3] >= 9:
            scale = (value.abs().amax((2, 3), keepdim=True) / LEVELS).clamp_min(LEAST_SCALE).half()
            tensors[key + SCALE] = scale
            value = (value / scale.float()).round().clamp(-LEVELS, LEVELS).char()
        elif value.is_floating_point() and value.numel() >= SMALL:
            value = value.half()
        tensors[key] = value.contiguous()
    return tensors


def unpack(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A model's tensors, float32, from those of a file.

    Raises ValueError where a scale has no kernel or another shape.
    """
    state = {k: v.float() for k, v in tensors.items() if not k.endswith(SCALE)}
    for key in tensors.keys() - state.keys():
        kernel = state.get(key.removesuffix(SCALE))
        if kernel is None or tensors[key].shape != (*kernel.shape[:2], 1, 1):
            raise ValueError(f"{key} fits no kernel")
        kernel *= tensors[key].float()
    return state
