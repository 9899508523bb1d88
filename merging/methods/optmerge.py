"""OptMerge (arXiv:2505.19892), data-free: the merge is trained on the LoRAs' weights alone."""

from __future__ import annotations

import torch
from torch import Tensor

from merging.linalg.closed_form import LayerProblem
from merging.linalg.core_space import CoreSpace, merge_in_core_space
from merging.linalg.delta import Delta

# As in the authors' code for LoRAs: gradient descent with momentum, from the mean.
STEPS = 400
STEP_SIZE = 0.05
MOMENTUM = 0.9
# Of step size times curvature; the descent diverges at 2 (1 + MOMENTUM). The authors' step size
# stays below this unless more than ten LoRAs are nearly the same.
LARGEST_STEP = 1.0


def optmerge(problem: LayerProblem) -> Delta:
    """Descends Σ_i ‖(Δ − Δ_i) Δ_iᵀ‖_F² / ‖Δ_i‖_F² for STEPS steps from the mean of the Δ_i.

    A LoRA's rows stand for the inputs it was trained on, where the merge is to do the same as it.
    Directions that a LoRA hardly uses stay near the mean: the descent ends before it gets there.
    The paper cuts the Δ_i to their strongest directions first, for full fine-tunings; what its code
    keeps is more than a LoRA has.
    """
    return merge_in_core_space(problem, _descend)


def _descend(space: CoreSpace) -> Delta:
    cores = space.cores
    start = torch.stack(cores).mean(dim=0)
    grams = [2 * core.T @ core / core.square().sum() for core in cores]
    target = torch.stack([core @ gram for core, gram in zip(cores, grams, strict=True)]).sum(dim=0)
    curvature = torch.stack(grams).sum(dim=0)  # of the objective, the same for all rows of Δ
    sizes, vectors = torch.linalg.eigh(curvature)
    downhill = (target - start @ curvature) @ vectors
    return space.expand_core(start + (downhill * distances(sizes)) @ vectors.T)


def distances(curvatures: Tensor) -> Tensor:
    """How far the descent gets along each eigenvector, per unit of its first gradient.

    The objective is quadratic, so the steps of all directions are steps of one number each.
    """
    step = min(STEP_SIZE, LARGEST_STEP / curvatures.max().item())
    distance, velocity = torch.zeros_like(curvatures), torch.zeros_like(curvatures)
    for _ in range(STEPS):
        velocity = MOMENTUM * velocity + 1 - curvatures * distance
        distance = distance + step * velocity
    return distance
