"""TSV-Merge (task singular vectors, arXiv:2412.00081) in core space (arXiv:2509.17786)."""

from __future__ import annotations

import torch

from merging.linalg.closed_form import LayerProblem
from merging.linalg.core_space import CoreSpace, merge_in_core_space, polar, real_svd
from merging.linalg.delta import Delta


def tsv(problem: LayerProblem) -> Delta:
    """Σ_i Ũ_i S_i Ṽ_i: every LoRA keeps its singular values, on directions made orthogonal.

    With M_i = U_i S_i V_i, [Ũ_1 … Ũ_N] is the orthonormal matrix nearest to [U_1 … U_N], and the
    same for V. If the sum of ranks exceeds the dimension of the space, every LoRA keeps its
    strongest directions, in proportion to its rank (the paper's 1/N, for equal ranks).
    """
    return merge_in_core_space(problem, _decorrelate)


def _decorrelate(space: CoreSpace) -> Delta:
    triples = [real_svd(core) for core in space.cores]
    dimension = min(space.left.shape[1], space.right.shape[0])
    total = sum(len(sizes) for _, sizes, _ in triples)
    ranks = [max(1, len(sizes) * dimension // total) for _, sizes, _ in triples]
    triples = [(u[:, :k], s[:k], v[:k]) for (u, s, v), k in zip(triples, ranks, strict=True)]
    left = polar(torch.cat([u for u, _, _ in triples], dim=1))
    right = polar(torch.cat([v for _, _, v in triples]))
    sizes = torch.cat([s for _, s, _ in triples])
    return space.expand(Delta(left * sizes, right))
