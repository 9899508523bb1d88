"""Changes of one layer in factored form: every scale folded in, float64."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from merging.adapter import LoraLayer, VectorDelta, factor_energy

MERGED_DTYPE = torch.float32  # of merged tensors: no file has more digits, and it halves the memory


@dataclass(frozen=True)
class Delta:
    """Δ = up @ down, with every scale and strength folded in."""

    up: Tensor  # (out, rank)
    down: Tensor  # (rank, in)

    @property
    def rank(self) -> int:
        """Inner dimension of the factors (the matrix itself may have less)."""
        return self.down.shape[0]

    def dense(self) -> Tensor:
        """Δ as an (out, in) matrix."""
        return self.up @ self.down

    def norm(self) -> float:
        """‖Δ‖_F, from the factors alone."""
        return factor_energy(self.up, self.down) ** 0.5

    def to(self, device: torch.device, dtype: torch.dtype) -> Delta:
        """The same change on another device, or in another precision."""
        up, down = self.up.to(dtype), self.down.to(dtype)  # first: MPS has no float64
        return Delta(up.to(device), down.to(device))


def scaled_delta(layer: LoraLayer, strength: float) -> Delta:
    """strength · (alpha / rank) · up @ down, in float64 on the CPU."""
    up = layer.up.detach().to("cpu", torch.float64, copy=True)
    down = layer.down.detach().to("cpu", torch.float64)
    return Delta(up.mul_(strength * layer.scale), down)


class ScaledDeltas(Mapping[str, Delta]):
    """Layer → change of one LoRA at its strength.

    The float64 factors are made at every look-up and not kept: sixteen LoRAs of rank 128 would not
    fit into memory beside a model.
    """

    def __init__(self, layers: Mapping[str, LoraLayer], strength: float) -> None:
        self._layers, self._strength = layers, strength

    def __getitem__(self, layer: str) -> Delta:
        return scaled_delta(self._layers[layer], self._strength)

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)


def sum_deltas(deltas: Sequence[Delta], weights: Sequence[float] | None = None) -> Delta:
    """Σ w_i Δ_i without loss, by concatenation: rank Σ r_i. All weights are 1 unless given."""
    ups = [delta.up for delta in deltas]
    if weights is not None:
        ups = [weight * up for weight, up in zip(weights, ups, strict=True)]
    return Delta(torch.cat(ups, dim=1), torch.cat([delta.down for delta in deltas]))


def sum_vector_deltas(loras: Iterable[Mapping[str, VectorDelta]]) -> dict[str, VectorDelta]:
    """Module → Σ of the LoRAs' changes of its bias and normalisation weight."""
    sums: dict[str, VectorDelta] = {}
    for shifts in loras:
        for module, shift in shifts.items():
            sums[module] = sums[module].plus(shift) if module in sums else shift
    return sums


def inner_product(one: Delta, matrix: Tensor | None, other: Delta) -> float:
    """⟨Δ M, Δ'⟩ = tr(Δ M Δ'ᵀ) from the factors alone; M is ``matrix``, None the unit matrix."""
    down = one.down if matrix is None else one.down @ matrix
    return ((one.up.T @ other.up) * (down @ other.down.T)).sum().item()


def from_dense(matrix: Tensor) -> Delta:
    """An (out, in) matrix as factors, one of them the unit matrix of the smaller side."""
    out, width = matrix.shape
    unit = torch.eye(min(out, width), dtype=matrix.dtype)
    return Delta(unit, matrix) if out <= width else Delta(matrix, unit)


def as_lora(delta: Delta) -> LoraLayer:
    """The canonical layer with alpha = rank, so that its scale is 1."""
    return LoraLayer(delta.up, delta.down, alpha=float(delta.rank))
