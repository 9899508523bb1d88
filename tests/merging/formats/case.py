"""A layer in a family's own form, beside its change; random values and the base's weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tests.merging.formats.handmade import Sample

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """Tensors by the suffix of their keys, and Δ in the shape of the weight."""

    sample: Sample
    tensors: Tensors
    change: Tensor
    kind: str  # how the family is called


def noise(*shape: int, seed: int = 0, size: float = 0.1) -> Tensor:
    """Random float32 values that bfloat16 holds too."""
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return (size * torch.randn(shape, generator=generator)).bfloat16().float()


def weight(sample: Sample) -> Tensor:
    """The base's weight of a sample layer."""
    return noise(*sample.shape, seed=99, size=0.05)


def cayley(blocks: Tensor, limit: float) -> Tensor:
    skew = blocks.double() - blocks.double().transpose(-1, -2)
    norm = skew.square().sum().sqrt().item()
    skew = skew * (limit / norm) if 0 < limit < norm else skew
    unit = torch.eye(blocks.shape[-1]).double()
    # (I + Q)(I − Q)⁻¹ = (I − Q)⁻¹(I + Q), for both are made of Q
    return torch.linalg.solve(unit - skew, unit + skew)
