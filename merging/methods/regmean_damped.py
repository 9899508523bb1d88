"""RegMean with smaller off-diagonals (arXiv:2212.09849, sec. on the scaling of inner products)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from merging.linalg.closed_form import LayerProblem, solve_rows
from merging.linalg.delta import Delta
from merging.linalg.row_statistics import RowStatistics

OFF_DIAGONAL = 0.9  # the paper's factor for most of its models


def regmean_damped(problem: LayerProblem) -> Delta:
    """RegMean on a·G + (1 − a)·diag(G): correlations between channels are trusted a little less."""
    rows = tuple(map(_damped, problem.rows))
    return solve_rows(replace(problem, rows=rows, weighting="uniform"))


def _damped(rows: RowStatistics) -> RowStatistics:
    grams = rows.grams()
    plain, cross = _shrunk(grams.plain), {i: _shrunk(each) for i, each in grams.cross.items()}
    return rows.taking(replace(grams, gram=_shrunk(grams.gram), plain=plain, cross=cross))


def _shrunk(matrix: Tensor) -> Tensor:
    return OFF_DIAGONAL * matrix + (1 - OFF_DIAGONAL) * torch.diag(matrix.diagonal())
