"""OPCM (orthogonal projection-based continual merging, arXiv:2501.09522) in core space."""

from __future__ import annotations

import torch
from torch import Tensor

from merging.linalg.closed_form import LayerProblem
from merging.linalg.core_space import CoreSpace, merge_in_core_space, real_svd
from merging.linalg.delta import Delta

ALPHA = 0.5  # the paper's share of Σσ whose directions are closed to later LoRAs


def opcm(problem: LayerProblem) -> Delta:
    """The LoRAs in turn, each without its part on the main directions of those before it.

    The paper uses the given order; here the largest change comes first, so that the user's order
    does not matter. The result gets the mean norm of the LoRAs, per layer.
    """
    return merge_in_core_space(problem, _add_in_turn)


def _add_in_turn(space: CoreSpace) -> Delta:
    first, *others = space.cores
    total = first
    for core in others:
        total = total + project_out(core, total)
    mean_norm = sum(core.norm().item() for core in space.cores) / len(space.cores)
    norm = total.norm().item()
    return space.expand_core(total * (mean_norm / norm) if norm else total)


def project_out(core: Tensor, merged: Tensor) -> Tensor:
    """M − U (mask ⊙ Uᵀ M Vᵀ) V for the core M, where ``merged`` = U S V.

    The mask has the leading q × q block, and the diagonal up to the rank of ``merged``; q is the
    least number of singular values that hold more than ALPHA of their sum.
    """
    left, sizes, right = real_svd(merged)
    q = 1 + int((sizes.cumsum(0) <= ALPHA * sizes.sum()).sum().item())
    mask = torch.eye(len(sizes), dtype=core.dtype)
    mask[:q, :q] = 1.0
    return core - left @ (mask * (left.T @ core @ right.T)) @ right
