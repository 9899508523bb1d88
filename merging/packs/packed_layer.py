"""One layer of many LoRAs in a pack: in directions that they share, or each by itself.

    Δ_i ≈ L C_i D_i R    L (out, k) orthonormal columns, R (l, in) orthonormal rows: shared
                         C_i (k, r_i), D_i (r_i, l): the codes of LoRA i

A basis with codes from which every model can be had back is reversible merging
(arXiv:2510.14163); one basis for either side of a layer is joint diagonalisation
(arXiv:2407.00066). L and R minimise Σ_i w_i² ‖Δ_i − L Lᵀ Δ_i Rᵀ R‖², by eigenvectors for one side
and the other in turn (a Tucker decomposition by orthogonal iteration).

Most LoRAs share few directions. So a layer is stored as the LoRAs' own factors, each cut by SVD,
where these keep as much in fewer numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from merging.linalg.core_space import ActiveLora, CoreSpace, core_space
from merging.linalg.delta import Delta
from merging.linalg.low_rank import truncate

SWEEPS = 5  # of the iteration; the error falls with each, and hardly after the third


@dataclass(frozen=True)
class PackedLayer:
    """The layer as a pack holds it."""

    left: Tensor  # L, or without codes [B_1 … B_N]: (out, k)
    right: Tensor  # R, or without codes [A_1; …; A_N]: (l, in)
    ranks: tuple[int, ...]  # r_i of every LoRA, 0 where it lacks the layer
    up: Tensor | None = None  # [C_1 … C_N] (k, Σ r_i); None: there are no codes
    down: Tensor | None = None  # [D_1; …; D_N] (Σ r_i, l)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name."""
        every = {"left": self.left, "right": self.right, "up": self.up, "down": self.down}
        return {name: tensor for name, tensor in every.items() if tensor is not None}

    @property
    def numbers(self) -> int:
        """How many numbers it takes."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    def to(self, dtype: torch.dtype) -> PackedLayer:
        """The same in another precision."""
        return PackedLayer(
            **{name: tensor.to(dtype) for name, tensor in self.tensors.items()}, ranks=self.ranks
        )

    def delta(self, place: int) -> Delta | None:
        """The change of one LoRA, float64; None where it lacks the layer."""
        start = sum(self.ranks[:place])
        own = slice(start, start + self.ranks[place])
        if self.up is None or self.down is None:
            delta = Delta(self.left[:, own].double(), self.right[own].double())
        else:
            up, down = self.up[:, own].double(), self.down[own].double()
            delta = Delta(self.left.double() @ up, down @ self.right.double())
        return delta if delta.rank else None


@dataclass(frozen=True)
class LayerOfLoras:
    """One layer before it is packed: the changes of all LoRAs, and their common space."""

    deltas: Sequence[Delta | None]  # None where a LoRA lacks the layer
    weights: Sequence[float]  # w_i

    @cached_property
    def present(self) -> list[tuple[int, Delta]]:
        """The place of every LoRA that changes the layer, and its change at its real rank."""
        changes = [(i, d) for i, d in enumerate(self.deltas) if d is not None and d.norm() > 0]
        return [(i, truncate(delta, "exact")[0]) for i, delta in changes]

    @cached_property
    def space(self) -> CoreSpace:
        """All directions of all changes, weighed."""
        weighed = [Delta(self.weights[i] * delta.up, delta.down) for i, delta in self.present]
        return core_space([ActiveLora(delta, 1.0, "") for delta in weighed])

    def packed(self, keep: float) -> PackedLayer:
        """The layer in the fewest numbers that keep this share of Σ w_i² ‖Δ_i‖²."""
        apart = self.apart(keep)
        shared = self.shared(keep) if keep < 1 and len(self.present) > 1 else apart
        return shared if shared.numbers < apart.numbers else apart

    def apart(self, keep: float = 1.0) -> PackedLayer:
        """The changes side by side, each cut to the directions that count most among all."""
        sizes = [self.weights[i] * _sizes(delta) for i, delta in self.present]
        energies, order = torch.cat(sizes).square().sort(descending=True, stable=True)
        owner = torch.tensor([i for i, d in self.present for _ in range(d.rank)])
        kept = owner[order[: _count(energies, 1 - keep)]]
        ranks = [int((kept == i).sum()) for i in range(len(self.deltas))]
        cut = [Delta(d.up[:, : ranks[i]], d.down[: ranks[i]]) for i, d in self.present]
        ups, downs = [delta.up for delta in cut], [delta.down for delta in cut]
        return PackedLayer(torch.cat(ups, dim=1), torch.cat(downs), tuple(ranks))

    def shared(self, keep: float) -> PackedLayer:
        """The changes in common directions; either side may lose half of what is not kept."""
        left, right = _directions(self.space.cores, (1 - keep) / 2)
        basis = CoreSpace((), self.space.left @ left, right.T @ self.space.right)
        codes = [truncate(basis.project(delta), "exact")[0] for _, delta in self.present]
        ranks = {i: code.rank for (i, _), code in zip(self.present, codes, strict=True)}
        return PackedLayer(
            basis.left,
            basis.right,
            tuple(ranks.get(i, 0) for i in range(len(self.deltas))),
            torch.cat([code.up for code in codes], dim=1),
            torch.cat([code.down for code in codes]),
        )


def _sizes(delta: Delta) -> Tensor:
    """Singular values of a change whose factors are balanced, as `truncate` makes them."""
    return delta.up.norm(dim=0) * delta.down.norm(dim=1)


def _directions(cores: Sequence[Tensor], loss: float) -> tuple[Tensor, Tensor]:
    """Orthonormal columns of both sides, in the core space: (k, left) and (l, right)."""
    energies, left = _eigenvectors(cores)
    left = left[:, : _count(energies, loss)]
    energies, right = _eigenvectors([core.T for core in cores])
    right = right[:, : _count(energies, loss)]
    for _ in range(SWEEPS):
        left = _eigenvectors([core @ right for core in cores])[1][:, : left.shape[1]]
        right = _eigenvectors([core.T @ left for core in cores])[1][:, : right.shape[1]]
    return left, right


def _eigenvectors(matrices: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Energies and directions (as columns) of Σ M Mᵀ, the strongest first."""
    gram = torch.stack([matrix @ matrix.T for matrix in matrices]).sum(dim=0)
    energies, vectors = torch.linalg.eigh(gram)
    return energies.flip(0).clamp_min(0), vectors.flip(1)


def _count(energies: Tensor, loss: float) -> int:
    """How many of the largest hold all but this share of the sum; at least one."""
    rests = energies.flip(0).cumsum(0).flip(0)  # what is lost without this one and all after it
    return max(1, int((rests > loss * energies.sum()).sum().item()))
