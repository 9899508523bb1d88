"""Truncation against the dense SVD, with and without a metric."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from merging.deltas import Delta
from merging.low_rank import AUTO_ENERGY, balanced, compressed
from tests.test_methods import random


def decaying(out: int = 12, rank: int = 6, width: int = 9) -> Delta:
    sizes = torch.logspace(0, -3, rank, dtype=torch.float64)
    return Delta(random(out, rank, seed=1) * sizes, random(rank, width, seed=2))


def test_exact_keeps_everything_and_drops_only_rounding() -> None:
    doubled = Delta(torch.cat([decaying().up] * 2, dim=1), torch.cat([decaying().down] * 2))
    kept, share = compressed(doubled, "exact")
    assert kept.rank == 6 and share == pytest.approx(1.0)
    assert_close(kept.dense(), 2 * decaying().dense())


@pytest.mark.parametrize("rank", [1, 3, 20])
def test_truncation_is_the_dense_svd(rank: int) -> None:
    u, s, vh = torch.linalg.svd(decaying().dense(), full_matrices=False)
    kept, share = compressed(decaying(), rank)
    assert_close(kept.dense(), u[:, :rank] * s[:rank] @ vh[:rank])
    assert kept.rank == min(rank, 6)
    assert share == pytest.approx((s[:rank].square().sum() / s.square().sum()).item())


def test_metric_minimises_the_error_of_the_outputs() -> None:
    inputs = random(50, 9, seed=3) * torch.logspace(0, 2, 9, dtype=torch.float64)
    metric = torch.linalg.cholesky(inputs.T @ inputs)
    best, _ = compressed(decaying(), 2, metric)
    plain, _ = compressed(decaying(), 2)
    wanted = inputs @ decaying().dense().T
    u, s, vh = torch.linalg.svd(wanted, full_matrices=False)
    optimum = (wanted - u[:, :2] * s[:2] @ vh[:2]).norm()
    assert_close((wanted - inputs @ best.dense().T).norm(), optimum)
    assert (wanted - inputs @ plain.dense().T).norm() > optimum * 1.001


def test_auto_keeps_the_stated_energy_and_no_more_than_needed() -> None:
    kept, share = compressed(decaying(), "auto")
    _, one_less = compressed(decaying(), max(1, kept.rank - 1))
    assert one_less < AUTO_ENERGY <= share


def test_balanced_factors_are_equally_large() -> None:
    lopsided = Delta(decaying().up * 1e6, decaying().down * 1e-6)
    even = balanced(lopsided)
    assert_close(even.dense(), decaying().dense())
    assert_close(even.up.norm(dim=0), even.down.norm(dim=1))


def test_nothing_stays_nothing() -> None:
    zero = Delta(torch.zeros(4, 2, dtype=torch.float64), torch.zeros(2, 5, dtype=torch.float64))
    kept, share = compressed(zero, "exact")
    assert not kept.dense().any() and share == 1.0
