"""Iso-C (isotropic merging, arXiv:2502.04959) in core space (arXiv:2509.17786)."""

from __future__ import annotations

import torch

from merging.linalg.closed_form import LayerProblem
from merging.linalg.core_space import CoreSpace, merge_in_core_space, real_svd
from merging.linalg.delta import Delta


def iso_c(problem: LayerProblem) -> Delta:
    """The sum with all of its singular values replaced by their mean: Δ* = σ̄ U V.

    Weak directions are no longer hidden by strong ones, but a style loses its few strong ones.
    """
    return merge_in_core_space(problem, _flatten)


def _flatten(space: CoreSpace) -> Delta:
    total = torch.stack(space.cores).sum(dim=0)
    left, sizes, right = real_svd(total)
    mean = sizes.mean() if len(sizes) else 0.0
    return space.expand(Delta(left * mean, right))
