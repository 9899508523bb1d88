"""Changes of one layer in factored form, every scale folded in, in float64."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from merging.adapter import LoraLayer, Shift, factor_energy


@dataclass(frozen=True)
class Delta:
    """Δ = up @ down, with nothing left to multiply."""

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
        """The same change elsewhere, or in another precision."""
        up, down = self.up.to(dtype), self.down.to(dtype)  # first: MPS has no float64
        return Delta(up.to(device), down.to(device))


def scaled(layer: LoraLayer, strength: float) -> Delta:
    """strength · (alpha / rank) · up @ down, in float64 on the CPU."""
    up = layer.up.detach().to("cpu", torch.float64, copy=True)
    down = layer.down.detach().to("cpu", torch.float64)
    return Delta(up.mul_(strength * layer.scale), down)


class Changes(Mapping[str, Delta]):
    """Layer → change of one LoRA at its strength.

    The float64 factors are made anew whenever they are asked for: sixteen LoRAs of rank 128 would
    not fit beside a model in double precision.
    """

    def __init__(self, layers: Mapping[str, LoraLayer], strength: float) -> None:
        self._layers, self._strength = layers, strength

    def __getitem__(self, layer: str) -> Delta:
        return scaled(self._layers[layer], self._strength)

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)


def stacked(deltas: Sequence[Delta], weights: Sequence[float] | None = None) -> Delta:
    """Σ w_i Δ_i without loss, by concatenation: rank Σ r_i. All weights are 1 unless given."""
    ups = [delta.up for delta in deltas]
    if weights is not None:
        ups = [weight * up for weight, up in zip(weights, ups, strict=True)]
    return Delta(torch.cat(ups, dim=1), torch.cat([delta.down for delta in deltas]))


def total(shifts: Iterable[Mapping[str, Shift]]) -> dict[str, Shift]:
    """Σ of what the LoRAs add to biases and normalisations: no linear map, so never solved for."""
    found: dict[str, Shift] = {}
    for own in shifts:
        for module, shift in own.items():
            found[module] = found[module].plus(shift) if module in found else shift
    return found


def inner(one: Delta, matrix: Tensor | None, other: Delta) -> float:
    """⟨Δ M, Δ'⟩ = tr(Δ M Δ'ᵀ) from the factors alone; None is the unit matrix."""
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
