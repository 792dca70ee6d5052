"""Orthogonalised momentum (Muon), in the arithmetic that the machine is fast in."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def orthogonalised(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Roughly U V^T of each matrix U S V^T: its singular values come out between 0.5 and 1.5.

    Five iterations of the quintic Newton-Schulz map with the coefficients of Jordan et al. (2024).

    Arguments:
        matrices: shape (count, rows, columns).
        dtype: of the products.

    Returns the same shape, in ``dtype``.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """The update of ``torch.optim.Muon`` (Nesterov momentum, no weight decay, the learning rate
    times sqrt(max(1, rows / columns))), with its state, so that checkpoints of either go on.

    Torch's always multiplies in bfloat16, which takes longer than all the rest of a step on
    processors without instructions for it, and one matrix at a time; here matrices of
    equal shape go together.

    Arguments:
        matrices: parameters, shape (rows, columns) each.
        dtype: arithmetic of the orthogonalisation.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        lr: float = 1e-3,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step; a matrix without a gradient stays as it is."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    shapes.setdefault(matrix.shape, []).append(matrix)
            for (rows, columns), matrices in shapes.items():
                updates = [self._momentum(matrix, group["momentum"]) for matrix in matrices]
                steps = orthogonalised(torch.stack(updates), self.dtype).float()
                scale = group["lr"] * math.sqrt(max(1, rows / columns))
                for matrix, step in zip(matrices, steps, strict=True):
                    matrix.add_(step, alpha=-scale)

    def _momentum(self, matrix: nn.Parameter, momentum: float) -> Tensor:
        assert matrix.grad is not None
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        average: Tensor = state["momentum_buffer"]
        average.lerp_(matrix.grad, 1 - momentum)
        return matrix.grad.lerp(average, momentum)
