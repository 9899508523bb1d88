"""KnOTS with TIES (arXiv:2410.19735): the changes in one common basis of their outputs."""

from __future__ import annotations

import torch

from merging.linalg.closed_form import LayerProblem
from merging.linalg.core_space import CoreSpace, hosted, real_svd
from merging.linalg.delta import Delta
from merging.methods.ties import DENSITY, elected_mean, trimmed


def knots(problem: LayerProblem) -> Delta:
    """TIES on Z_i = S V_i, where [Δ_1 … Δ_N] = U S [V_1 … V_N]; then Δ* = U Z*.

    Against TIES in core space, the entries that vote belong to the layer's own input channels.
    Statistics are the layer's (the authors' code takes them over the whole model).
    """
    return hosted(problem, _in_common_basis)


def _in_common_basis(space: CoreSpace) -> Delta:
    basis, _, _ = real_svd(torch.cat(space.cores, dim=1))
    aligned = [basis.T @ core @ space.right for core in space.cores]
    voted = elected_mean([trimmed(z, DENSITY) for z in aligned])
    return Delta(space.left @ basis, voted)
