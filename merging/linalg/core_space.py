"""A small space that holds all changes of one layer without loss (Core Space, arXiv:2509.17786).

Notation, for the N LoRAs that change the layer:

    Δ_i = B_i A_i   with √σ on either side: B_i (out, r_i), A_i (r_i, in)
    U (out, k)      orthonormal columns: left singular vectors of [B_1 … B_N], k ≤ min(out, Σ r_i)
    V (l, in)       orthonormal rows: right singular vectors of [A_1; …; A_N], l ≤ min(in, Σ r_i)
    M_i (k, l)      Uᵀ Δ_i Vᵀ, the core of LoRA i: Δ_i = U M_i V

A file fixes B_i and A_i only up to a matrix between them; √σ on either side makes U and V depend on
the changes alone. A rule merges the cores to M*; the rank of U M* V is at most Σ r_i.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from merging.linalg.closed_form import LayerProblem, zero_delta
from merging.linalg.delta import Delta
from merging.linalg.low_rank import NEGLIGIBLE, truncate


@dataclass(frozen=True)
class ActiveLora:
    """One LoRA that changes the layer."""

    delta: Delta  # with its strength folded in
    strength: float
    name: str


@dataclass(frozen=True)
class CoreSpace:
    """The LoRAs of one layer, and the bases that hold their changes."""

    loras: Sequence[ActiveLora]
    left: Tensor  # U (out, k)
    right: Tensor  # V (l, in)

    @property
    def cores(self) -> list[Tensor]:
        """M_i of every LoRA."""
        projections = [self.project(lora.delta) for lora in self.loras]
        return [delta.up @ delta.down for delta in projections]

    def project(self, delta: Delta) -> Delta:
        """The factors Uᵀ B and A Vᵀ of a change in this space: (k, r) and (r, l)."""
        return Delta(self.left.T @ delta.up, delta.down @ self.right.T)

    def expand(self, delta: Delta) -> Delta:
        """The change of the layer, from its factors in this space."""
        return Delta(self.left @ delta.up, delta.down @ self.right)

    def expand_core(self, core: Tensor) -> Delta:
        """U M V for a core M; its rank is the smaller side of M."""
        if core.shape[0] <= core.shape[1]:
            return Delta(self.left, core @ self.right)
        return Delta(self.left @ core, self.right)


def merge_in_core_space(problem: LayerProblem, rule: Callable[[CoreSpace], Delta]) -> Delta:
    """The layer merged by ``rule``; a LoRA that alone changes the layer stays as it is.

    So no rule trims, draws or flattens where there is nothing to merge.
    """
    loras = active_loras(problem)
    if len(loras) < 2:
        return loras[0].delta if loras else zero_delta(problem)
    return rule(core_space(loras))


def active_loras(problem: LayerProblem) -> list[ActiveLora]:
    """The LoRAs that change the layer, largest change first, then by name.

    So no method can depend on the user's order. A LoRA of strength 0 is left out.
    """
    names = problem.names or ("",) * len(problem.deltas)
    columns = zip(problem.deltas, problem.strengths, names, strict=True)
    loras = [
        ActiveLora(delta, strength, name) for delta, strength, name in columns if delta is not None
    ]
    sized = [(lora.delta.norm(), lora) for lora in loras]
    ordered = sorted(sized, key=lambda pair: (-pair[0], pair[1].name))
    return [lora for size, lora in ordered if size > 0]


def core_space(loras: Sequence[ActiveLora]) -> CoreSpace:
    """U and V of the notation above."""
    deltas = [truncate(lora.delta, "exact")[0] for lora in loras]
    left = column_basis(torch.cat([delta.up for delta in deltas], dim=1))
    right = column_basis(torch.cat([delta.down for delta in deltas]).T)
    return CoreSpace(loras, left, right.T)


def column_basis(matrix: Tensor) -> Tensor:
    """Left singular vectors of a matrix, without those of rounding errors."""
    q, r = torch.linalg.qr(matrix)
    vectors, _, _ = real_svd(r)
    return q @ vectors


def polar(matrix: Tensor) -> Tensor:
    """The nearest matrix with orthonormal columns (rows, where it is wide)."""
    left, _, right = real_svd(matrix)
    return left @ right


def real_svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U, S, Vᵀ without the directions of rounding errors, whose vectors are arbitrary."""
    left, sizes, right = torch.linalg.svd(matrix, full_matrices=False)
    rank = int((sizes > NEGLIGIBLE * sizes[0]).sum().item())
    return left[:, :rank], sizes[:rank], right[:rank]
