"""Truncation against the dense SVD, with and without a metric."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from merging.linalg.delta import Delta, from_dense, sum_deltas
from merging.linalg.low_rank import AUTO_ENERGY, balance, truncate
from tests.merging.linalg.problems import random


def decaying(out: int = 12, rank: int = 6, width: int = 9) -> Delta:
    sizes = torch.logspace(0, -3, rank, dtype=torch.float64)
    return Delta(random(out, rank, seed=1) * sizes, random(rank, width, seed=2))


def test_exact_keeps_everything_and_drops_only_rounding() -> None:
    doubled = Delta(torch.cat([decaying().up] * 2, dim=1), torch.cat([decaying().down] * 2))
    truncated, share = truncate(doubled, "exact")
    assert truncated.rank == 6 and share == pytest.approx(1.0)
    assert_close(truncated.dense(), 2 * decaying().dense())


@pytest.mark.parametrize("rank", [1, 3, 20])
def test_truncation_is_the_dense_svd(rank: int) -> None:
    u, s, vh = torch.linalg.svd(decaying().dense(), full_matrices=False)
    truncated, share = truncate(decaying(), rank)
    assert_close(truncated.dense(), u[:, :rank] * s[:rank] @ vh[:rank])
    assert truncated.rank == min(rank, 6)
    assert share == pytest.approx((s[:rank].square().sum() / s.square().sum()).item())


def test_metric_minimises_the_error_of_the_outputs() -> None:
    inputs = random(50, 9, seed=3) * torch.logspace(0, 2, 9, dtype=torch.float64)
    metric = torch.linalg.cholesky(inputs.T @ inputs)
    best, _ = truncate(decaying(), 2, metric)
    plain, _ = truncate(decaying(), 2)
    expected = inputs @ decaying().dense().T
    u, s, vh = torch.linalg.svd(expected, full_matrices=False)
    optimum = (expected - u[:, :2] * s[:2] @ vh[:2]).norm()
    assert_close((expected - inputs @ best.dense().T).norm(), optimum)
    assert (expected - inputs @ plain.dense().T).norm() > optimum * 1.001


def test_auto_keeps_the_stated_energy_and_no_more_than_needed() -> None:
    truncated, share = truncate(decaying(), "auto")
    _, one_less = truncate(decaying(), max(1, truncated.rank - 1))
    assert one_less < AUTO_ENERGY <= share


def test_balanced_factors_are_equally_large() -> None:
    lopsided = Delta(decaying().up * 1e6, decaying().down * 1e-6)
    even = balance(lopsided)
    assert_close(even.dense(), decaying().dense())
    assert_close(even.up.norm(dim=0), even.down.norm(dim=1))


def test_zero_stays_zero() -> None:
    zero = Delta(torch.zeros(4, 2, dtype=torch.float64), torch.zeros(2, 5, dtype=torch.float64))
    truncated, share = truncate(zero, "exact")
    assert not truncated.dense().any() and share == 1.0


@pytest.mark.parametrize("shape", [(12, 9), (9, 12), (9, 9)])
@pytest.mark.parametrize("smallest", [1e-3, 1e-9])
def test_a_dense_change_is_cut_by_what_its_outputs_lose(
    shape: tuple[int, int], smallest: float
) -> None:
    """As many components as channels and more, some of them too small for a Gram matrix."""
    out, width = shape
    sizes = torch.logspace(0, math.log10(smallest), 9, dtype=torch.float64)
    left, right = (torch.linalg.qr(random(n, 9, seed=n))[0] for n in shape)
    dense = sum_deltas([decaying(out, 2, width), from_dense(left * sizes @ right.T)])
    metric = torch.linalg.cholesky(random(width, width, seed=7) @ random(width, width, seed=7).T)
    for rank in (2, 9):
        truncated, share = truncate(dense, rank, metric)
        u, s, vh = torch.linalg.svd(dense.dense() @ metric, full_matrices=False)
        expected = u[:, :rank] * s[:rank] @ vh[:rank]
        assert_close(truncated.dense() @ metric, expected, rtol=1e-9, atol=1e-10)
        assert truncated.rank == rank
        assert share == pytest.approx((s[:rank].square().sum() / s.square().sum()).item())


def svd_by_hand(delta: Delta, rank: int) -> torch.Tensor:
    u, s, vh = torch.linalg.svd(delta.dense(), full_matrices=False)
    return u[:, :rank] * s[:rank] @ vh[:rank]


@pytest.mark.parametrize("exponent", [-30, -3, 4, 30])
def test_how_a_file_splits_a_change_costs_no_digits(exponent: int) -> None:
    """Each component a power of two larger on one side, up to 2³⁰, than on the other."""
    scales = 2.0 ** (exponent * torch.arange(6, dtype=torch.float64) / 5)
    lopsided = Delta(decaying().up * scales, decaying().down / scales[:, None])
    truncated, _ = truncate(lopsided, 3)
    assert_close(truncated.dense(), svd_by_hand(decaying(), 3), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("apart", [1e-2, 1e-5, 1e-9, 0.0])
@pytest.mark.parametrize("rank", [2, 5, "exact"])
def test_nearly_dependent_components_are_cut_soundly(apart: float, rank: int | str) -> None:
    """Rows that differ by less and less: QR replaces Gram matrices without a loss of precision."""
    twin = decaying().down + apart * random(6, 9, seed=4)
    beside = Delta(
        torch.cat([decaying().up, -0.5 * decaying().up.flip(1)], dim=1),
        torch.cat([decaying().down, twin.flip(0)]),
    )
    truncated, share = truncate(beside, rank)
    expected = beside.dense() if rank == "exact" else svd_by_hand(beside, rank)
    assert (truncated.dense() - expected).norm() < 1e-9 * expected.norm()
    assert share <= 1 + 1e-12 and truncated.rank <= 9


@pytest.mark.parametrize("small", [1e-4, 1e-8])
def test_small_components_are_neither_lost_nor_made_up(small: float) -> None:
    """Squares of sizes lose 1e-8 in rounding; a rank that reaches them must not."""
    sizes = torch.tensor([1.0, 0.5, small], dtype=torch.float64)
    left, right = (torch.linalg.qr(random(n, 3, seed=n))[0] for n in (12, 9))
    truncated, _ = truncate(Delta(left * sizes, right.T), 3)
    third = truncated.up[:, 2].norm() * truncated.down[2].norm()
    assert truncated.rank == 3 and third.item() == pytest.approx(small, rel=1e-6)


def test_components_of_nothing_and_more_components_than_channels() -> None:
    hollow = Delta(decaying().up.clone(), decaying().down.clone())
    hollow.up[:, 1] = 0
    hollow.down[2] = 0
    truncated, _ = truncate(hollow, "exact")
    assert truncated.rank == 4
    assert_close(truncated.dense(), hollow.dense())
    wide = Delta(random(5, 30, seed=5), random(30, 4, seed=6))
    truncated, _ = truncate(wide, "exact")
    assert truncated.rank == 4
    assert_close(truncated.dense(), wide.dense())
