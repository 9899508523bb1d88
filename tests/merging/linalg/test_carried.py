"""The closed form of carrying one layer, against least squares by torch."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from merging.linalg.carried import carried
from merging.linalg.closed_form import LayerProblem
from merging.linalg.delta import Delta
from merging.linalg.row_statistics import RowStatistics

WIDTH, OUT, RANK = 12, 7, 3
RIDGE = 1e-2
GENERATOR = torch.Generator().manual_seed(0)
DELTA = Delta(
    torch.randn(OUT, RANK, generator=GENERATOR, dtype=torch.float64),
    torch.randn(RANK, WIDTH, generator=GENERATOR, dtype=torch.float64),
)


def inputs(rows: int, seed: int) -> Tensor:
    """Inputs of a layer, or noise on them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, WIDTH, generator=generator, dtype=torch.float64)


def solved(pairs: Sequence[tuple[Tensor, Tensor]]) -> Delta:
    """Carried by the rows of these sets: of the old base, of the new one."""
    sets = []
    for old, new in pairs:
        sets.append(RowStatistics("rows", constant=(1.0,)))
        sets[-1].add(old, new)
    problem = LayerProblem(
        "layer", (DELTA,), (1.0,), rows=tuple(sets), alpha=RIDGE, weighting="uniform"
    )
    return carried(problem)


def least_squares(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """argmin ‖X Δᵀ − X̃ Δ'ᵀ‖² + μ ‖Δ' − Δ‖², by the rows alone."""
    old, new = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    ridge = RIDGE * sum((rows.T @ rows).norm() for _, rows in pairs)
    full = DELTA.dense()
    left = torch.cat([new, ridge**0.5 * torch.eye(WIDTH, dtype=torch.float64)])
    right = torch.cat([old @ full.T, ridge**0.5 * full.T])
    return torch.linalg.lstsq(left, right).solution.T


@pytest.mark.parametrize("rows", [(5, 4), (40, 30)], ids=["kept rows", "summed rows"])
def test_is_the_least_squares_solution(rows: tuple[int, int]) -> None:
    pairs = [
        (old := inputs(count, seed), old + 0.5 * inputs(count, seed + 10))
        for seed, count in enumerate(rows)
    ]
    answer = solved(pairs)
    torch.testing.assert_close(answer.dense(), least_squares(pairs), rtol=1e-9, atol=1e-9)
    assert torch.equal(answer.up, DELTA.up)  # so its rank is that of the LoRA


def test_equal_inputs_give_the_lora_back() -> None:
    rows = inputs(40, 0)
    torch.testing.assert_close(
        solved([(rows, rows.clone())]).dense(), DELTA.dense(), rtol=1e-10, atol=1e-10
    )


def test_what_no_row_tells_of_stays_as_it_is() -> None:
    """Rows in the first half of the channels: the second half is that of the LoRA."""
    half = WIDTH // 2
    old, new = inputs(40, 0), inputs(40, 1)
    old[:, half:], new[:, half:] = 0, 0
    answer = solved([(old, new)]).dense()
    torch.testing.assert_close(answer[:, half:], DELTA.dense()[:, half:], rtol=1e-10, atol=1e-10)
    assert (answer[:, :half] - DELTA.dense()[:, :half]).norm() > 0.1
