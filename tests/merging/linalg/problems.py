"""Layers with random LoRAs and rows, for the tests of linalg and of the methods."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from merging.linalg.closed_form import LayerProblem
from merging.linalg.delta import Delta
from merging.linalg.row_statistics import RowStatistics
from merging.methods import METHODS

OUT, IN, ROWS = 10, 8, 40
NEUTRAL = 1e-12  # a ridge too small to matter


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def change(
    i: int, strength: float = 1.0, out: int = OUT, width: int = IN, rank: int | None = None
) -> Delta:
    """LoRA i: rank 1 + i by default, so that ranks differ."""
    rank = rank or 1 + i
    return Delta(strength * random(out, rank, seed=100 + i), random(rank, width, seed=200 + i))


def rows(i: int, place: int, count: int, width: int = IN) -> RowStatistics:
    """The row set of LoRA i, number ``place`` of the list, with X̃ = X."""
    size = max(ROWS, 2 * width)
    weights = torch.zeros(size, count)
    weights[:, place] = 1
    statistics = RowStatistics(f"set {i}", residual=True)
    x = random(size, width, seed=30 + i)
    statistics.add(x, x, weights)
    return statistics


def layer_problem(
    strengths: Sequence[float],
    order: Sequence[int] | None = None,
    missing: Sequence[int] = (),
    alpha: float = NEUTRAL,
    out: int = OUT,
    width: int = IN,
    ranks: Sequence[int | None] | None = None,
) -> LayerProblem:
    """A layer with LoRAs of these strengths, in this order, some of which lack it."""
    order = order or range(len(strengths))
    count = len(strengths)
    ranks = ranks or [None] * count
    return LayerProblem(
        name="unet.layer",
        deltas=tuple(
            None if i in missing else change(i, strengths[i], out, width, ranks[i]) for i in order
        ),
        strengths=tuple(strengths[i] for i in order),
        weight=random(out, width, seed=1),
        rows=tuple(rows(i, place, count, width) for place, i in enumerate(order)),
        alpha=alpha,
        names=tuple(f"lora {i}" for i in order),
        steps=tuple(100 * (1 + i) for i in order),
    )


def merged(name: str, problem: LayerProblem) -> Tensor:
    return METHODS[name].solve(problem).dense()


def drifted_problem(
    rows: int = ROWS, alpha: float = 1e-12, strengths: tuple[float, ...] = (1.0, 0.5)
):
    """Two LoRAs whose inputs differ in the merged model; and the rows themselves."""
    pairs = []
    row_sets = []
    for i in range(2):
        x = random(rows, IN, seed=40 + i)
        x_merged = x + 0.3 * random(rows, IN, seed=50 + i)
        weights = torch.zeros(rows, 2)
        weights[:, i] = 1
        statistics = RowStatistics(f"set {i}", residual=True)
        statistics.add(x[: rows // 2], x_merged[: rows // 2], weights[: rows // 2])
        statistics.add(x[rows // 2 :], x_merged[rows // 2 :], weights[rows // 2 :])
        pairs.append((x, x_merged))
        row_sets.append(statistics)
    problem = LayerProblem(
        name="unet.layer",
        deltas=tuple(change(i, strengths[i]) for i in range(2)),
        strengths=strengths,
        weight=random(OUT, IN, seed=1),
        rows=tuple(row_sets),
        alpha=alpha,
    )
    return problem, pairs
