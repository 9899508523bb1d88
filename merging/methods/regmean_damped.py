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
    """RegMean on a·G + (1 − a)·diag(G): correlations between channels count a little less."""
    rows = tuple(map(_damp, problem.rows))
    return solve_rows(replace(problem, rows=rows, weighting="uniform"))


def _damp(rows: RowStatistics) -> RowStatistics:
    gram = rows.summed_gram()
    plain, cross = _shrink(gram.plain), {i: _shrink(matrix) for i, matrix in gram.cross.items()}
    return rows.with_gram(replace(gram, gram=_shrink(gram.gram), plain=plain, cross=cross))


def _shrink(matrix: Tensor) -> Tensor:
    """Off-diagonal entries times OFF_DIAGONAL."""
    return OFF_DIAGONAL * matrix + (1 - OFF_DIAGONAL) * torch.diag(matrix.diagonal())
