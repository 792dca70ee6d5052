"""Muon for convolution kernels, Adam for the rest, behind one ``step``."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.training.muon import Muon
from toolkit.training.recipe import Optimizer


def _matrices(kernel: nn.Parameter, values: Tensor) -> list[Tensor]:
    """``values``, shaped as ``kernel``, as the matrices that Muon makes orthogonal."""
    count = getattr(kernel, "interleaved", 1)
    flat = values.reshape(values.shape[0], -1)
    return [flat[i::count] for i in range(count)]


class MixedOptimizer:
    """Orthogonalised momentum (Muon, Jordan et al. 2024) on kernels flattened to matrices.

    Muon takes matrices, so it is given views of the kernels as (C_out, C_in k k). A kernel that
    feeds a pixel shuffle is four convolutions in one (its parameter says so by an attribute
    ``interleaved = 4``) and gives four matrices, which also takes a quarter of the time.
    Everything that is no kernel goes to Adam.
    """

    def __init__(self, model: nn.Module, options: Optimizer) -> None:
        self.options = options
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        kernels = [p for p in self.parameters if p.ndim == 4] if options.kernels == "muon" else []
        taken = {id(p) for p in kernels}
        others = [p for p in self.parameters if id(p) not in taken]
        self.kernels = kernels
        self.matrices = [nn.Parameter(m.detach()) for p in kernels for m in _matrices(p, p)]
        self.parts: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.Adam(others, betas=options.betas), options.other_lr)
        ]
        if kernels:
            self.parts.append((Muon(self.matrices), options.kernel_lr))

    def clip_gradients(self) -> float:
        """Shorten the gradient to the norm ``clip``; returns its norm before."""
        limit = math.inf if self.options.clip is None else self.options.clip
        return float(nn.utils.clip_grad_norm_(self.parameters, limit))

    def step(self, scale: float) -> None:
        """One step at ``scale`` times the learning rates."""
        gradients: list[Tensor | None] = []
        for p in self.kernels:  # a kernel that the loss doesn't depend on has no gradient
            none = [None] * len(_matrices(p, p))
            gradients += none if p.grad is None else _matrices(p, p.grad)
        for matrix, gradient in zip(self.matrices, gradients, strict=True):
            matrix.grad = gradient
        for optimizer, lr in self.parts:
            for group in optimizer.param_groups:
                group["lr"] = lr * scale
            optimizer.step()

    def clear_gradients(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> list[dict[str, Any]]:
        return [optimizer.state_dict() for optimizer, _ in self.parts]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        for (optimizer, _), part in zip(self.parts, state, strict=True):
            optimizer.load_state_dict(part)
