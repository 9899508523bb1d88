"""DARE (arXiv:2311.03099) on the cores of the changes (arXiv:2509.17786), then their sum."""

from __future__ import annotations

import torch
from torch import Tensor

from merging.linalg.closed_form import LayerProblem
from merging.linalg.core_space import CoreSpace, merge_in_core_space
from merging.linalg.delta import Delta
from merging.runtime.seeds import seed_for

# Share of entries that is kept. Rescaling by 1/p adds noise of energy (1 − p)/p: at the paper's
# 0.1 nine times the LoRA itself, which the redundancy of a full fine-tuning averages out and a
# LoRA's core does not; at 0.8 a quarter.
KEEP = 0.8


def dare(problem: LayerProblem) -> Delta:
    """Σ_i (mask_i ⊙ M_i) / p: entries dropped at random, the rest enlarged to keep the mean.

    A mask depends on the seed, the layer and the LoRA, not on the order of the list.
    """

    def rule(space: CoreSpace) -> Delta:
        pairs = zip(space.loras, space.cores, strict=True)
        cores = [core * _mask(problem, lora.name, core) / KEEP for lora, core in pairs]
        return space.expand_core(torch.stack(cores).sum(dim=0))

    return merge_in_core_space(problem, rule)


def _mask(problem: LayerProblem, name: str, core: Tensor) -> Tensor:
    """True with probability KEEP, in the shape of the core; fixed by seed, layer and LoRA."""
    generator = torch.Generator().manual_seed(seed_for(problem.seed, problem.name, name))
    return torch.rand(core.shape, generator=generator, dtype=core.dtype) < KEEP
