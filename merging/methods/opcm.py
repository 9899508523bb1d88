"""OPCM (orthogonal projection-based continual merging, arXiv:2501.09522) in core space."""

from __future__ import annotations

import torch
from torch import Tensor

from merging.linalg.closed_form import LayerProblem
from merging.linalg.core_space import CoreSpace, hosted, real_svd
from merging.linalg.delta import Delta

ALPHA = 0.5  # the paper's share of Σσ whose directions are closed to newcomers


def opcm(problem: LayerProblem) -> Delta:
    """One LoRA after the other, each without what would fall on the directions already taken.

    The paper takes them as they come; here the largest change comes first, so that the user's
    order means nothing. The result gets the mean norm of the LoRAs, per layer.
    """
    return hosted(problem, _one_by_one)


def _one_by_one(space: CoreSpace) -> Delta:
    first, *others = space.cores
    total = first
    for core in others:
        total = total + projected(core, total)
    wanted = sum(core.norm().item() for core in space.cores) / len(space.cores)
    found = total.norm().item()
    return space.back(total * (wanted / found) if found else total)


def projected(core: Tensor, taken: Tensor) -> Tensor:
    """The core without its part on ``taken``'s leading q × q directions and on their diagonal.

    For ``taken`` = U S V that is U (mask ⊙ Uᵀ M Vᵀ) V subtracted; q is the least number of
    singular values that hold more than ALPHA of their sum. The diagonal goes as far as ``taken``
    has a rank: beyond it there are no directions to keep clear of.
    """
    left, sizes, right = real_svd(taken)
    q = 1 + int((sizes.cumsum(0) <= ALPHA * sizes.sum()).sum().item())
    mask = torch.eye(len(sizes), dtype=core.dtype)
    mask[:q, :q] = 1.0
    return core - left @ (mask * (left.T @ core @ right.T)) @ right
