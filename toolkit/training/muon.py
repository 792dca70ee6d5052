"""Orthogonalised momentum (Muon), by products of small matrices."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def orthogonalised(matrices: Tensor) -> Tensor:
    """Roughly U V^T of each matrix U S V^T: its singular values come out between 0.5 and 1.5.

    Five iterations of the quintic Newton-Schulz map ``X <- (a I + b G + c G^2) X``, G = X X^T, with
    the coefficients of Jordan et al. (2024). Each multiplies by a polynomial in G, which makes the
    next G of it, too: so all but the first and the last product are of matrices as small as G.
    For kernels, with their many columns, that takes less than half of the time.

    Arguments:
        matrices: float32, shape (count, rows, columns). In bfloat16 what rounding makes of
            G's small eigenvalues would grow.

    Returns the same shape.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    gram, product = x @ x.mT, None
    a, b, c = _COEFFICIENTS
    for left in reversed(range(_ITERATIONS)):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor if product is None else factor @ product
        if left:
            gram = factor @ gram @ factor
    assert product is not None
    x = product @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """The update of ``torch.optim.Muon`` (Nesterov momentum, no weight decay, the learning rate
    times sqrt(max(1, rows / columns))), with its state, so that checkpoints of either go on.

    Torch's always multiplies in bfloat16, which takes longer than all the rest of a step on
    processors without instructions for it, and one matrix at a time; here it is float32, in
    fewer products, and matrices of equal shape go together.

    Arguments:
        matrices: parameters, float32, shape (rows, columns) each.
    """

    def __init__(
        self, matrices: Iterable[nn.Parameter], lr: float = 1e-3, momentum: float = 0.95
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum})

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
                steps = orthogonalised(torch.stack(updates))
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
