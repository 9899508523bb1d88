"""TIES (arXiv:2306.01708) on the cores of the changes (arXiv:2509.17786)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from merging.linalg.closed_form import LayerProblem
from merging.linalg.core_space import CoreSpace, merge_in_core_space
from merging.linalg.delta import Delta

# Share of a core's entries that is kept. The paper keeps 0.2 of a full fine-tuning, most of which
# is redundant; a LoRA is not, and the range in use on Stable Diffusion is 0.5 to 0.9.
DENSITY = 0.7


def ties(problem: LayerProblem) -> Delta:
    """Trim every core, elect a sign per entry, average what has that sign.

    The merged change is about as large as one LoRA, not as their sum.
    """

    def rule(space: CoreSpace) -> Delta:
        return space.expand_core(sign_elected_mean([trim(core, DENSITY) for core in space.cores]))

    return merge_in_core_space(problem, rule)


def trim(matrix: Tensor, density: float) -> Tensor:
    """The largest share of entries, at least one; the others 0. Equal entries are kept together."""
    return keep_largest(matrix, math.ceil(density * matrix.numel()))


def keep_largest(matrix: Tensor, count: int) -> Tensor:
    """The ``count`` entries of largest size (and all that equal the last of them), others 0."""
    sizes = matrix.abs()
    threshold = sizes.flatten().topk(max(1, min(count, matrix.numel()))).values[-1]
    return torch.where(sizes >= threshold, matrix, 0.0)


def sign_elected_mean(matrices: Sequence[Tensor]) -> Tensor:
    """Per entry, the mean of the values that have the sign of the sum; 0 where the sum is 0."""
    values = torch.stack(tuple(matrices))
    agree = values.sign() == values.sum(dim=0).sign()
    return torch.where(agree, values, 0.0).sum(dim=0) / agree.sum(dim=0).clamp_min(1)
