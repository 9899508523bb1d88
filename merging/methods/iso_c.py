"""Iso-C (isotropic merging, arXiv:2502.04959) in core space (arXiv:2509.17786)."""

from __future__ import annotations

import torch

from merging.linalg.closed_form import LayerProblem
from merging.linalg.core_space import CoreSpace, hosted, real_svd
from merging.linalg.delta import Delta


def iso_c(problem: LayerProblem) -> Delta:
    """The sum with all of its singular values replaced by their mean: Δ* = σ̄ U V.

    No direction drowns another; but a style's few strong directions lose their lead.
    """
    return hosted(problem, _flattened)


def _flattened(space: CoreSpace) -> Delta:
    total = torch.stack(space.cores).sum(dim=0)
    left, sizes, right = real_svd(total)
    mean = sizes.mean() if len(sizes) else 0.0
    return space.outer(Delta(left * mean, right))
