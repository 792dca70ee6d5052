"""Muon takes the steps of torch's, in float32 and in fewer products."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from toolkit.training.muon import Muon, orthogonalised

SHAPES = [(8, 24), (8, 24), (24, 8), (5, 5), (1, 7)]


def weights() -> list[nn.Parameter]:
    torch.manual_seed(3)
    return [nn.Parameter(torch.randn(shape)) for shape in SHAPES]


def give_gradients(*of: list[nn.Parameter]) -> None:
    for matrices in zip(*of, strict=True):
        gradient = torch.randn(matrices[0].shape)
        for matrix in matrices:
            matrix.grad = gradient.clone()


def test_steps_are_those_of_torch() -> None:
    ours, theirs = weights(), weights()
    mine = Muon(ours, lr=0.1)
    reference = torch.optim.Muon(theirs, lr=0.1, weight_decay=0.0, adjust_lr_fn="original")
    for _ in range(4):
        give_gradients(ours, theirs)
        mine.step()
        reference.step()
    for a, b, start in zip(ours, theirs, weights(), strict=True):
        assert (a - b).norm() < 0.05 * (b - start).norm()


def test_goes_on_from_the_state_of_torch() -> None:
    ours, theirs = weights(), weights()
    reference = torch.optim.Muon(theirs, lr=0.1, weight_decay=0.0, adjust_lr_fn="original")
    give_gradients(theirs)
    reference.step()
    mine = Muon(ours, lr=0.3)
    mine.load_state_dict(copy.deepcopy(reference.state_dict()))
    for a, b in zip(ours, theirs, strict=True):
        a.data.copy_(b.data)
    give_gradients(ours, theirs)
    mine.step()
    reference.step()
    for a, b, start in zip(ours, theirs, weights(), strict=True):
        assert (a - b).norm() < 0.05 * (b - start).norm()


def test_a_matrix_without_gradient_stays() -> None:
    ours = weights()
    give_gradients(ours)
    ours[1].grad = None
    Muon(ours, lr=0.1).step()
    changed = [not torch.equal(a, b) for a, b in zip(ours, weights(), strict=True)]
    assert changed == [True, False, True, True, True]


def test_singular_values_come_out_near_one() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalised(torch.randn(3, 20, 50)))
    assert float(values.min()) > 0.5
    assert float(values.max()) < 1.5


@pytest.mark.parametrize("shape", [(24, 200), (200, 24), (30, 31)])
@pytest.mark.parametrize("smallest", [1e-1, 1e-4, 1e-8])
def test_it_is_the_newton_schulz_map(shape: tuple[int, int], smallest: float) -> None:
    """As in float64 by its definition, also where singular values differ by eight decades."""
    torch.manual_seed(1)
    u, _, v = torch.linalg.svd(torch.randn(shape, dtype=torch.float64), full_matrices=False)
    s = torch.logspace(0, math.log10(smallest), len(v), dtype=torch.float64)
    matrix = (u * s) @ v
    s /= s.norm()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    (found,) = orthogonalised(matrix[None].float())
    wanted = (u * s) @ v
    assert (found - wanted).norm() < 2e-3 * wanted.norm()


def test_a_matrix_of_zeros_stays_one() -> None:
    assert not orthogonalised(torch.zeros(2, 4, 9)).any()
