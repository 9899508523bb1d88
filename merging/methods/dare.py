"""DARE (arXiv:2311.03099) on the cores of the changes (arXiv:2509.17786), then their sum."""

from __future__ import annotations

import torch
from torch import Tensor

from merging.linalg.closed_form import LayerProblem
from merging.linalg.core_space import CoreSpace, hosted
from merging.linalg.delta import Delta
from merging.runtime.seeds import seed_for

# Share of entries that is kept. Rescaling by 1/p adds noise of energy (1 − p)/p: at the paper's
# 0.1 nine times the LoRA itself, which the redundancy of a full fine-tuning averages out and a
# LoRA's core does not; at 0.8 a quarter.
KEEP = 0.8


def dare(problem: LayerProblem) -> Delta:
    """Σ_i (mask_i ⊙ M_i) / p: entries dropped at random, the rest made larger to keep the mean.

    A mask depends on the seed, the layer and the LoRA, never on the LoRA's place in the list.
    """

    def rule(space: CoreSpace) -> Delta:
        pairs = zip(space.parts, space.cores, strict=True)
        kept = [core * _mask(problem, part.name, core) / KEEP for part, core in pairs]
        return space.back(torch.stack(kept).sum(dim=0))

    return hosted(problem, rule)


def _mask(problem: LayerProblem, name: str, like: Tensor) -> Tensor:
    """True with probability KEEP, the same for the same request."""
    generator = torch.Generator().manual_seed(seed_for(problem.seed, problem.name, name))
    draws = torch.rand(like.shape, generator=generator, dtype=like.dtype)
    return draws < KEEP
