"""Learned CAT against least squares on the rows themselves."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.testing import assert_close

from tests.merging.linalg.problems import IN, ROWS, change, layer_problem, merged, random


def test_its_weights_are_those_of_least_squares() -> None:
    count = 3
    problem = layer_problem([1.0] * count)
    changes = [change(i).dense() for i in range(count)]
    rows = [random(ROWS, IN, seed=30 + i) for i in range(count)]
    wanted = torch.cat([x @ own.T for x, own in zip(rows, changes, strict=True)]).flatten()
    offered = [torch.cat([x @ one.T for x in rows]).flatten() for one in changes]
    weights = torch.linalg.lstsq(torch.stack(offered, dim=1), wanted).solution
    expected = sum(weight * one for weight, one in zip(weights, changes, strict=True))
    assert_close(merged("learned-cat", problem), expected, rtol=1e-6, atol=1e-6)


def test_loras_that_read_other_inputs_keep_their_strength() -> None:
    """Where no LoRA acts on the other's rows, every weight is 1."""
    problem = layer_problem([1.0, 1.0], width=8)
    mine, its = torch.eye(8, dtype=torch.float64).split(4)
    deltas = tuple(
        replace(delta, down=delta.down @ half.T @ half)
        for delta, half in zip(problem.present, (mine, its), strict=True)
    )
    statistics = []
    for place, half in enumerate((mine, its)):
        rows = problem.rows[place]
        x, weights = random(ROWS, 4, seed=place) @ half, torch.zeros(ROWS, 2)
        weights[:, place] = 1
        fresh = type(rows)(rows.name, residual=True)
        fresh.add(x, x, weights)
        statistics.append(fresh)
    apart = replace(problem, deltas=deltas, rows=tuple(statistics))
    expected = sum(delta.dense() for delta in deltas)
    assert_close(merged("learned-cat", apart), expected, rtol=1e-5, atol=1e-5)


def test_weights_are_the_only_change() -> None:
    """The merge is a combination of the LoRAs: two numbers explain the whole matrix."""
    answer = merged("learned-cat", layer_problem([1.0, 0.5], alpha=1e-3)).flatten()
    basis = torch.stack([change(i, 1.0).dense().flatten() for i in range(2)], dim=1)
    weights = torch.linalg.lstsq(basis, answer).solution
    assert_close(basis @ weights, answer)
