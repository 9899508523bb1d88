"""A small space that holds all changes of one layer without loss (Core Space, arXiv:2509.17786).

Notation, for the N LoRAs that change the layer:

    Δ_i = B_i A_i   with √σ on either side: B_i (out, r_i), A_i (r_i, in)
    U (out, k)      orthonormal columns: left singular vectors of [B_1 … B_N], k ≤ min(out, Σ r_i)
    V (l, in)       orthonormal rows: right singular vectors of [A_1; …; A_N], l ≤ min(in, Σ r_i)
    M_i (k, l)      Uᵀ Δ_i Vᵀ, the core of LoRA i: Δ_i = U M_i V

A file fixes B_i and A_i only up to a matrix between them; √σ on either side makes U and V depend on
the changes alone. Whatever a rule makes of the cores, U M* V has rank at most Σ r_i.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from merging.linalg.closed_form import LayerProblem, nothing
from merging.linalg.delta import Delta
from merging.linalg.low_rank import NEGLIGIBLE, compressed


@dataclass(frozen=True)
class Part:
    """One LoRA that changes the layer."""

    delta: Delta  # its strength folded in
    strength: float
    name: str


@dataclass(frozen=True)
class CoreSpace:
    """The parts, and the bases that hold them."""

    parts: Sequence[Part]
    left: Tensor  # U (out, k)
    right: Tensor  # V (l, in)

    @property
    def cores(self) -> list[Tensor]:
        """M_i of every part."""
        inner = [self.inner(part.delta) for part in self.parts]
        return [delta.up @ delta.down for delta in inner]

    def inner(self, delta: Delta) -> Delta:
        """The factors of a change in this space: (k, r) and (r, l)."""
        return Delta(self.left.T @ delta.up, delta.down @ self.right.T)

    def outer(self, delta: Delta) -> Delta:
        """The change of the layer that has these factors in this space."""
        return Delta(self.left @ delta.up, delta.down @ self.right)

    def back(self, core: Tensor) -> Delta:
        """U M V, its rank the smaller side of M."""
        if core.shape[0] <= core.shape[1]:
            return Delta(self.left, core @ self.right)
        return Delta(self.left @ core, self.right)


def hosted(problem: LayerProblem, rule: Callable[[CoreSpace], Delta]) -> Delta:
    """What the rule makes of the parts; a LoRA that has the layer to itself is given back whole.

    So no rule trims, draws or flattens where there is nothing to merge.
    """
    parts = live_parts(problem)
    if len(parts) < 2:
        return parts[0].delta if parts else nothing(problem)
    return rule(core_space(parts))


def live_parts(problem: LayerProblem) -> list[Part]:
    """The LoRAs that change the layer, largest change first, then by name.

    The order in which they were given is gone, so that no method can depend on it. A LoRA of
    strength 0 is as good as not given.
    """
    names = problem.names or ("",) * len(problem.deltas)
    given = zip(problem.deltas, problem.strengths, names, strict=True)
    parts = [Part(delta, strength, name) for delta, strength, name in given if delta is not None]
    sized = [(part.delta.norm(), part) for part in parts]
    ordered = sorted(sized, key=lambda pair: (-pair[0], pair[1].name))
    return [part for size, part in ordered if size > 0]


def core_space(parts: Sequence[Part]) -> CoreSpace:
    """U and V of the notation above."""
    balanced = [compressed(part.delta, "exact")[0] for part in parts]
    left = column_basis(torch.cat([delta.up for delta in balanced], dim=1))
    right = column_basis(torch.cat([delta.down for delta in balanced]).T)
    return CoreSpace(parts, left, right.T)


def column_basis(matrix: Tensor) -> Tensor:
    """Left singular vectors of a matrix, without those that are only rounding."""
    q, r = torch.linalg.qr(matrix)
    vectors, _, _ = real_svd(r)
    return q @ vectors


def polar(matrix: Tensor) -> Tensor:
    """The nearest matrix with orthonormal columns (rows, where it is wide)."""
    left, _, right = real_svd(matrix)
    return left @ right


def real_svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U, S, Vᵀ without the directions that are only rounding, whose vectors mean nothing."""
    left, sizes, right = torch.linalg.svd(matrix, full_matrices=False)
    kept = int((sizes > NEGLIGIBLE * sizes[0]).sum().item())
    return left[:, :kept], sizes[:kept], right[:kept]
