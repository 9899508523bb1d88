"""DC-Merge (arXiv:2603.06242): smoothed spectra, merged in a basis that covers all LoRAs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from merging.linalg.closed_form import LayerProblem
from merging.linalg.core_space import CoreSpace, merge_in_core_space, polar, real_svd
from merging.linalg.delta import Delta
from merging.methods.ties import keep_largest, sign_elected_mean

RHO = 5.0  # largest ratio of a LoRA's first to its last singular value, as in the authors' code
KEEP = 1e-3  # share of entries, as in the authors' code; at least as many as the LoRA's rank


def dc_merge(problem: LayerProblem) -> Delta:
    """Δ* = Ũ (M* ⊙ blocks) Ṽ, M* the elected mean of the sparsified M_i = Ũᵀ Δ̄_i Ṽᵀ.

    Δ̄_i = U_i S̄_i V_i has its singular values on a straight line with the same sum (the authors'
    "linear"). Ũ is the orthonormal matrix nearest to [U_1 … U_N], Ṽ that to the V_i, and the blocks
    are one r_i × r_i square per LoRA. The authors' 0.1 % would keep one entry of a LoRA's core, so
    at least r_i entries are kept, about one per direction.
    """
    return merge_in_core_space(problem, _merge_in_cover_basis)


def _merge_in_cover_basis(space: CoreSpace) -> Delta:
    triples = [real_svd(core) for core in space.cores]
    left = polar(torch.cat([u for u, _, _ in triples], dim=1))
    right = polar(torch.cat([v for _, _, v in triples]))
    cores = [
        _sparsify((left.T @ u) * smooth(s) @ (v @ right.T), rank=len(s)) for u, s, v in triples
    ]
    blocks = torch.block_diag(*(torch.ones(len(s), len(s), dtype=s.dtype) for _, s, _ in triples))
    return space.expand(Delta(left @ (sign_elected_mean(cores) * blocks), right))


def smooth(sizes: Tensor) -> Tensor:
    """Singular values on a falling line: the same sum, and a ratio of at most RHO."""
    ratio = min(RHO, (sizes[0] / sizes[-1]).item())
    line = torch.linspace(ratio, 1.0, len(sizes), dtype=sizes.dtype)
    return line * (sizes.sum() / line.sum())


def _sparsify(core: Tensor, rank: int) -> Tensor:
    return keep_largest(core, max(rank, math.ceil(KEEP * core.numel())))
