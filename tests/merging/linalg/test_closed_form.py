"""The closed form against a dense least-squares oracle, and the meaning of its options."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch.testing import assert_close

from merging.errors import MergeError
from merging.linalg.closed_form import LayerProblem, objective, solve_rows, zero_delta
from merging.linalg.damped_system import DenseSystem, RowSystem, cholesky
from merging.linalg.delta import Delta
from merging.linalg.diagnostics import fallback_share, objectives
from merging.linalg.row_statistics import RowStatistics
from merging.options import Mode
from tests.merging.linalg.problems import (
    IN,
    OUT,
    ROWS,
    change,
    drifted_problem,
    layer_problem,
    random,
)


def oracle(
    problem: LayerProblem, pairs: list, weights: list[float], base: torch.Tensor | None = None
) -> torch.Tensor:
    """argmin_Δ Σ_i λ_i ‖X_i Δ_iᵀ − X̃_i Δᵀ‖², by stacking rows.

    With ``base``, W0 (out, in): Σ_i λ_i ‖X_i (W0 + Δ_i)ᵀ − X̃_i (W0 + Δ)ᵀ‖².
    """
    base = torch.zeros(OUT, IN, dtype=torch.float64) if base is None else base
    inputs = torch.cat([w**0.5 * merged for w, (_, merged) in zip(weights, pairs, strict=True)])
    targets = torch.cat(
        [
            w**0.5 * (x @ delta.dense().T + (x - merged) @ base.T)
            for w, (x, merged), delta in zip(weights, pairs, problem.deltas, strict=True)
        ]
    )
    return torch.linalg.lstsq(inputs, targets).solution.T


@pytest.mark.parametrize("weighting", ["merged", "uniform"])
def test_closed_form_equals_dense_least_squares(weighting: str) -> None:
    problem, pairs = drifted_problem()
    problem = replace(problem, weighting=weighting)
    assert_close(solve_rows(problem).dense(), oracle(problem, pairs, problem.weights))


def test_ridge_formula_as_the_paper_writes_it() -> None:
    problem, pairs = drifted_problem(alpha=1e-2)
    weights = problem.weights
    eye = torch.eye(IN, dtype=torch.float64)
    left = right = 0.0
    for w, (x, moved), delta in zip(weights, pairs, problem.deltas, strict=True):
        cross, gram = x.T @ moved, moved.T @ moved
        left = left + w * delta.dense() @ (cross + 1e-2 * cross.norm() * eye)
        right = right + w * (gram + 1e-2 * gram.norm() * eye)
    assert_close(solve_rows(problem).dense(), left @ torch.linalg.inv(right))


def test_residual_mode_also_imitates_the_base_weight() -> None:
    problem, pairs = drifted_problem()
    answer = solve_rows(replace(problem, mode="delta+residual")).dense()
    assert_close(answer, oracle(problem, pairs, problem.weights, base=problem.weight))
    assert (answer - solve_rows(problem).dense()).norm() > 0.1 * answer.norm()


def test_full_mode_is_the_papers_formula_with_whole_weights() -> None:
    problem, pairs = drifted_problem(alpha=1e-2)
    weights = problem.weights
    eye = torch.eye(IN, dtype=torch.float64)
    left = right = 0.0
    for w, (x, moved), delta in zip(weights, pairs, problem.deltas, strict=True):
        cross, gram = x.T @ moved, moved.T @ moved
        left = left + w * (problem.weight + delta.dense()) @ (cross + 1e-2 * cross.norm() * eye)
        right = right + w * (gram + 1e-2 * gram.norm() * eye)
    whole = left @ torch.linalg.inv(right)
    assert_close(solve_rows(replace(problem, mode="full")).dense(), whole - problem.weight)


def test_a_measured_base_energy_takes_the_place_of_the_products() -> None:
    problem, pairs = drifted_problem()
    measured = tuple(
        replace(rows, base_energy=float((x @ problem.weight.T).norm() ** 2))
        for rows, (x, _) in zip(problem.rows, pairs, strict=True)
    )
    assert replace(problem, rows=measured).weights == pytest.approx(problem.weights, rel=1e-9)


@pytest.mark.parametrize("weighting", ["merged", "delta", "relative"])
def test_set_weights_are_ratios_of_energies(weighting: str) -> None:
    problem, pairs = drifted_problem()
    expected = []
    for (x, _), delta in zip(pairs, problem.deltas, strict=True):
        weight = delta.dense() + (problem.weight if weighting == "merged" else 0)
        size = 1.0 if weighting == "relative" else weight.norm() ** 2
        expected.append(float(size / (x @ weight.T).norm() ** 2))
    assert replace(problem, weighting=weighting).weights == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("weighting", ["delta", "relative"])
def test_preserved_rows_are_weighed_by_the_mean_of_the_loras(weighting: str) -> None:
    problem, _ = drifted_problem()
    x = random(ROWS, IN, seed=60)
    rows = RowStatistics("preserved", omega=0.5)
    rows.add(x, x, torch.zeros(ROWS, 2))
    mean = (problem.deltas[0].dense() + problem.deltas[1].dense()) / 2
    size = mean.norm() ** 2 if weighting == "delta" else 1.0
    [actual] = replace(problem, rows=(rows,), weighting=weighting).weights
    assert actual == pytest.approx(float(0.5 * size / (x @ mean.T).norm() ** 2), rel=1e-9)


def test_cross_ridge_takes_the_place_of_the_fallback() -> None:
    problem, _ = drifted_problem(alpha=1e-2)
    by_name = solve_rows(replace(problem, fallback="sum")).dense()
    assert_close(solve_rows(replace(problem, cross_alpha=2e-2)).dense(), by_name)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_rows_lose_no_digits_in_the_sums(kind: torch.dtype) -> None:
    """A channel a thousand times as large as the others, as CLIP has."""
    x = random(700, IN, seed=70).to(kind)
    x[:, 0] *= 1000
    statistics = RowStatistics("half")
    statistics.add(x, x, torch.ones(700, 1))
    exact = x.double().T @ x.double()
    scale = exact.diagonal().sqrt()
    assert ((statistics.summed_gram().gram - exact) / scale[:, None] / scale).abs().max() < 1e-6


def test_objective_is_the_sum_of_squares_and_the_solution_its_minimum() -> None:
    problem, pairs = drifted_problem()
    weights = problem.weights
    best = solve_rows(problem)
    for candidate in (best, zero_delta(problem), change(1)):
        by_hand = sum(
            w * (x @ delta.dense().T - moved @ candidate.dense().T).norm() ** 2
            for w, (x, moved), delta in zip(weights, pairs, problem.deltas, strict=True)
        )
        assert objective(problem, candidate) == pytest.approx(by_hand.item(), rel=1e-9)
    bent = Delta(best.up, best.down * 1.01)
    assert objective(problem, best) < objective(problem, bent)


@pytest.mark.parametrize(("fallback", "factor"), [("mean", 0.5), ("sum", 1.0), ("zero", 0.0)])
def test_fallback_decides_in_directions_that_no_row_has(fallback: str, factor: float) -> None:
    """One row per set: in all other directions only the ridge is left."""
    single_rows = []
    for i in range(2):
        weights = torch.zeros(1, 2)
        weights[:, i] = 1
        statistics = RowStatistics(f"set {i}")
        statistics.add(*[torch.eye(1, IN, dtype=torch.float64)] * 2, weights)
        single_rows.append(statistics)
    problem = replace(
        layer_problem([1.0, 1.0]), rows=tuple(single_rows), alpha=1e-3, fallback=fallback
    )
    blind = torch.zeros(IN, IN, dtype=torch.float64)
    blind[1:, 1:] = torch.eye(IN - 1, dtype=torch.float64)  # directions that no row has
    total = (change(0).dense() + change(1).dense()) @ blind
    assert_close(solve_rows(replace(problem, weighting="uniform")).dense() @ blind, factor * total)


def test_preserve_rows_pull_to_no_change_on_their_inputs() -> None:
    problem, _ = drifted_problem(alpha=1e-9)
    inputs = random(ROWS, IN, seed=60)
    rows = RowStatistics("preserved", omega=1e6)
    rows.add(inputs, inputs, torch.zeros(ROWS, 2))
    answer = solve_rows(replace(problem, rows=(*problem.rows, rows), weighting="uniform"))
    assert (inputs @ answer.dense().T).norm() < 1e-3 * (inputs @ change(0).dense().T).norm()


def test_row_weights_may_differ_within_a_set() -> None:
    """Half the rows of one set follow LoRA 0, half LoRA 1: the same as two sets of weight 1."""
    problem, pairs = drifted_problem()
    weights = torch.zeros(2 * ROWS, 2)
    weights[:ROWS, 0] = weights[ROWS:, 1] = 1
    mixed = RowStatistics("mixed")
    mixed.add(*(torch.cat(rows) for rows in zip(*pairs, strict=True)), weights)
    problem = replace(problem, weighting="uniform")
    both = replace(problem, rows=(mixed,))
    answer = solve_rows(both)
    assert_close(answer.dense(), solve_rows(problem).dense())
    assert objective(both, answer) == pytest.approx(objective(problem, answer))


def few_row_problem(weighted: bool, rows: int, many: bool, mode: Mode = "delta") -> LayerProblem:
    """Two sets of fewer rows than channels each; with ``many``, already multiplied out."""
    sets = []
    for i in range(2):
        x = random(rows, IN, seed=70 + i)
        weights = torch.full((rows, 2), 0.5) if weighted else None
        if weighted:
            weights[0, i] = 1
        constant = None if weighted else (1.0 - i, float(i))
        statistics = RowStatistics(f"set {i}", constant=constant, residual=True)
        statistics.add(x, x + 0.3 * random(rows, IN, seed=80 + i), weights)
        if many:
            statistics.summed_gram()
        sets.append(statistics)
    return replace(drifted_problem()[0], rows=tuple(sets), alpha=1e-3, fallback="sum", mode=mode)


@pytest.mark.parametrize("mode", get_args(Mode))
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rows", [3, 6])
def test_few_rows_are_solved_by_themselves_to_the_same_answer(
    weighted: bool, rows: int, mode: Mode
) -> None:
    """In eight channels: 2 · 3 rows need no (in, in) matrix, 2 · 6 the one of all sets together."""
    by_rows = few_row_problem(weighted, rows, False, mode)
    by_grams = few_row_problem(weighted, rows, True, mode)
    assert isinstance(by_rows.system, RowSystem if rows == 3 else DenseSystem)
    answer = solve_rows(by_rows)
    assert_close(answer.dense(), solve_rows(by_grams).dense())
    assert by_rows.weights == pytest.approx(by_grams.weights)
    assert objective(by_rows, answer) == pytest.approx(objective(by_grams, answer))
    assert objectives(by_rows, answer) == pytest.approx(objectives(by_grams, answer))
    assert fallback_share(by_rows, answer) == pytest.approx(fallback_share(by_grams, answer))
    assert by_rows.system.condition() == pytest.approx(by_grams.system.condition())
    assert all(rows.keeps_rows for rows in by_rows.rows)
    assert_close(by_rows.system.factor, by_grams.system.factor)


def test_constant_weights_and_equal_inputs_save_products_and_change_nothing() -> None:
    x = random(ROWS, IN, seed=70)
    weights = torch.zeros(ROWS, 2)
    weights[:, 1] = 1
    varied = RowStatistics("set")
    constant = RowStatistics("set", constant=(0.0, 1.0), inputs_equal=True)
    varied.add(x, x, weights)
    constant.add(x, x)
    assert constant.summed_gram().gram is constant.summed_gram().teacher
    answers = [
        solve_rows(replace(drifted_problem()[0], rows=(rows,), alpha=1e-3))
        for rows in (varied, constant)
    ]
    assert_close(answers[0].dense(), answers[1].dense())


def test_rows_without_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="without weights"):
        RowStatistics("set").add(*[random(3, IN, seed=1)] * 2)


def test_degenerate_rows_are_refused() -> None:
    with pytest.raises(MergeError, match=r"unet\.layer.*not positive definite"):
        cholesky(torch.zeros(3, 3, dtype=torch.float64), "unet.layer")


def test_layers_that_share_an_input_share_its_factor_where_weights_are_equal() -> None:
    problem, _ = drifted_problem(alpha=1e-3)
    for weighting, one_factor in (("uniform", True), ("merged", False)):
        query, key = (replace(problem, name=name, weighting=weighting) for name in ("q", "k"))
        assert (query.system is key.system) == one_factor
    again = replace(problem, weighting="uniform", alpha=1e-2)
    assert again.system is not replace(again, alpha=1e-3).system
