"""The numbers of the report, on one layer with rows made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from merging.linalg.closed_form import solve_rows
from merging.linalg.diagnostics import fallback_share, objectives
from tests.merging.linalg.problems import drifted_problem


def test_objectives_compare_the_answers_on_the_merged_models_inputs() -> None:
    problem, pairs = drifted_problem()
    values = objectives(problem, solve_rows(problem))
    assert list(values) == ["base", "sum", "regmean", "merged"]
    assert values["base"] == 1.0
    assert values["merged"] < min(values["base"], values["sum"], values["regmean"])
    inputs = torch.cat([x for x, _ in pairs])
    targets = torch.cat(
        [x @ delta.dense().T for (x, _), delta in zip(pairs, problem.deltas, strict=True)]
    )
    regmean = torch.linalg.lstsq(inputs, targets).solution.T
    by_hand = [
        sum(
            w * (x @ delta.dense().T - moved @ answer.T).norm() ** 2
            for w, (x, moved), delta in zip(problem.weights, pairs, problem.deltas, strict=True)
        ).item()
        for answer in (regmean, torch.zeros_like(regmean))
    ]
    assert values["regmean"] == pytest.approx(by_hand[0] / by_hand[1], rel=1e-6)


def test_fallback_share_grows_with_the_ridge() -> None:
    shares = []
    for alpha in (1e-9, 1e-2, 1e3):
        problem, _ = drifted_problem(alpha=alpha)
        shares.append(fallback_share(problem, solve_rows(problem)))
    assert shares[0] < 1e-6 and shares[0] < shares[1] < shares[2] and shares[2] > 0.99
    to_zero = replace(drifted_problem(alpha=1e-2)[0], fallback="zero")
    assert fallback_share(to_zero, solve_rows(to_zero)) == 0.0


def test_condition_is_the_ratio_of_the_extreme_eigenvalues() -> None:
    """Never more, and near it: a few power steps come from below."""
    problem, _ = drifted_problem(alpha=1e-3)
    sizes = torch.linalg.eigvalsh(problem.system.factor @ problem.system.factor.T)
    ratio = (sizes[-1] / sizes[0]).item()
    assert 0.8 * ratio < problem.system.condition() < 1.0001 * ratio
