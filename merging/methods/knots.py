"""KnOTS with TIES (arXiv:2410.19735): the changes in one common basis of their outputs."""

from __future__ import annotations

import torch

from merging.linalg.closed_form import LayerProblem
from merging.linalg.core_space import CoreSpace, merge_in_core_space, real_svd
from merging.linalg.delta import Delta
from merging.methods.ties import DENSITY, sign_elected_mean, trim


def knots(problem: LayerProblem) -> Delta:
    """TIES on Z_i = S V_i, where [Δ_1 … Δ_N] = U S [V_1 … V_N]; then Δ* = U Z*.

    Unlike TIES in core space, signs are elected per input channel of the layer. Entries are trimmed
    layer by layer (in the authors' code, over the whole model).
    """
    return merge_in_core_space(problem, _merge_in_common_basis)


def _merge_in_common_basis(space: CoreSpace) -> Delta:
    basis, _, _ = real_svd(torch.cat(space.cores, dim=1))
    aligned = [basis.T @ core @ space.right for core in space.cores]
    return Delta(space.left @ basis, sign_elected_mean([trim(z, DENSITY) for z in aligned]))
