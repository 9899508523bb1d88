"""OptMerge against torch's own optimiser on dense matrices, and what its objective means."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from merging.linalg.closed_form import LayerProblem
from merging.linalg.delta import Delta
from merging.methods.optmerge import MOMENTUM, STEP_SIZE, STEPS
from tests.merging.linalg.problems import change, layer_problem, merged, random


def objective(merge: Tensor, changes: list[Tensor]) -> Tensor:
    """Σ_i ‖(Δ − Δ_i) Δ_iᵀ‖² / ‖Δ_i‖², as the paper has it."""
    errors = [((merge - one) @ one.T).square().sum() / one.square().sum() for one in changes]
    return torch.stack(errors).sum()


@pytest.mark.parametrize(("out", "width"), [(10, 8), (8, 30)])
def test_it_is_descent_by_torch_on_dense_matrices(out: int, width: int) -> None:
    problem = layer_problem([1.0, -0.6, 0.8], out=out, width=width)
    changes = [delta.dense() for delta in problem.present]
    merge = torch.stack(changes).mean(dim=0).requires_grad_()
    descent = torch.optim.SGD([merge], lr=STEP_SIZE, momentum=MOMENTUM)
    for _ in range(STEPS):
        descent.zero_grad()
        objective(merge, changes).backward()
        descent.step()
    assert_close(merged("optmerge", problem), merge.detach(), rtol=1e-9, atol=1e-9)


def test_loras_that_read_different_inputs_are_added_up() -> None:
    rows = torch.linalg.qr(random(8, 4, seed=1)).Q.T
    one, two = Delta(random(10, 2, seed=2), rows[:2]), Delta(random(10, 2, seed=3), rows[2:])
    both = LayerProblem("layer", (one, two), (1.0, 1.0), names=("one", "two"))
    assert_close(merged("optmerge", both), one.dense() + two.dense(), rtol=1e-6, atol=1e-6)


def test_a_crowd_of_equal_loras_is_one_of_them() -> None:
    """The authors' step size alone would diverge from 39 on."""
    names = tuple(f"lora {i}" for i in range(60))
    nearly = tuple(change(0, 1 + i / 1000) for i in range(60))
    crowd = LayerProblem("layer", nearly, (1.0,) * 60, names=names)
    expected = change(0).dense()
    assert (merged("optmerge", crowd) - expected).norm() < 0.1 * expected.norm()
