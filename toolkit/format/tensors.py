"""How tensors of a model lie in its weights file.

Convolution kernels but for small ones are int8 times a scale for each output and one for each input
channel (float16, the tensors ``NAME:rows`` and ``NAME:columns``); other large tensors are float16,
small ones as they are. Against float16 for all that is large, it saves half of the bytes and
moves a picture by a few hundredths of a dB (docs/training.md). A model's first and last
convolutions and its divisive normalisations are small, and stay finer.

Files of before have a scale for each k x k slice of a kernel (``NAME:scale``); they are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ROWS, COLUMNS, SLICES = ":rows", ":columns", ":scale"
SMALL = 4096
"""Tensors with fewer elements stay as they are: they cost little, and gains and biases reach all
positions."""
LARGE = 8192
"""Convolution kernels with as many elements are int8."""
LEVELS = 127
LEAST_SCALE = 2.0**-24
"""float16's smallest step: what needs a finer one is zeros to any picture."""


def pack(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file, contiguous, from a model's floating-point and integer tensors."""
    tensors = {}
    for key, value in state.items():
        value = value.detach().cpu()
        if value.ndim == 4 and value.numel() >= LARGE and value.is_floating_point():
            columns = _scale(value.abs().amax((0, 2, 3), keepdim=True).sqrt())
            even = value / columns.float()
            rows = _scale(even.abs().amax((1, 2, 3), keepdim=True) / LEVELS)
            tensors[key + ROWS], tensors[key + COLUMNS] = rows, columns
            value = (even / rows.float()).round().clamp(-LEVELS, LEVELS).char()
        elif value.is_floating_point() and value.numel() >= SMALL:
            value = value.half()
        tensors[key] = value.contiguous()
    return tensors


def _scale(value: Tensor) -> Tensor:
    return value.clamp_min(LEAST_SCALE).half().contiguous()


def unpack(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A model's tensors, float32, from those of a file.

    Raises ValueError where a scale has no kernel or another shape.
    """
    scales = [key for key in tensors if key.endswith((ROWS, COLUMNS, SLICES))]
    state = {k: v.float() for k, v in tensors.items() if k not in scales}
    for key in scales:
        name, _, kind = key.rpartition(":")
        kernel, scale = state.get(name), tensors[key]
        if kernel is None or kernel.ndim != 4 or tuple(scale.shape) != _shape(kernel, f":{kind}"):
            raise ValueError(f"{key} fits no kernel")
        kernel *= scale.float()
    return state


def _shape(kernel: Tensor, kind: str) -> tuple[int, int, int, int]:
    outputs, inputs = kernel.shape[:2]
    return (1 if kind == COLUMNS else outputs, 1 if kind == ROWS else inputs, 1, 1)
