"""DC-Merge (arXiv:2603.06242): smoothed spectra, merged in a basis that covers all LoRAs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from merging.linalg.closed_form import LayerProblem
from merging.linalg.core_space import CoreSpace, hosted, polar, real_svd
from merging.linalg.delta import Delta
from merging.methods.ties import elected_mean, largest

RHO = 5.0  # the authors' largest ratio of a LoRA's first to its last singular value
KEEP = 1e-3  # the authors' share of entries; a LoRA always keeps as many as its rank


def dc_merge(problem: LayerProblem) -> Delta:
    """Δ* = Ũ (M* ⊙ blocks) Ṽ, M* the elected mean of the sparsified M_i = Ũᵀ Δ̄_i Ṽᵀ.

    Δ̄_i = U_i S̄_i V_i has its singular values on a straight line, their sum preserved (the
    authors' "linear"). Ũ is the orthonormal matrix nearest to [U_1 … U_N], Ṽ alike, and the
    blocks are one r_i × r_i square per LoRA. At their 0.1 % a LoRA's core would keep one entry;
    as many as its rank leave each direction one.
    """
    return hosted(problem, _covered)


def _covered(space: CoreSpace) -> Delta:
    triples = [real_svd(core) for core in space.cores]
    left = polar(torch.cat([u for u, _, _ in triples], dim=1))
    right = polar(torch.cat([v for _, _, v in triples]))
    cores = [
        _sparse((left.T @ u) * smoothed(s) @ (v @ right.T), rank=len(s)) for u, s, v in triples
    ]
    blocks = torch.block_diag(*(torch.ones(len(s), len(s), dtype=s.dtype) for _, s, _ in triples))
    return space.outer(Delta(left @ (elected_mean(cores) * blocks), right))


def smoothed(sizes: Tensor) -> Tensor:
    """Singular values on a falling line: the same sum, first to last at most RHO to 1."""
    ratio = min(RHO, (sizes[0] / sizes[-1]).item())
    line = torch.linspace(ratio, 1.0, len(sizes), dtype=sizes.dtype)
    return line * (sizes.sum() / line.sum())


def _sparse(core: Tensor, rank: int) -> Tensor:
    return largest(core, max(rank, math.ceil(KEEP * core.numel())))
