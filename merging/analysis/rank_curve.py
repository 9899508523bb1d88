"""What an adapter would lose at a smaller rank, and how small its file would be."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from merging.adapter import Adapter, LoraLayer
from merging.errors import MergeError
from merging.linalg.delta import scaled_delta
from merging.linalg.low_rank import singular_values, truncate
from merging.options import Rank

STEPS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


@dataclass(frozen=True)
class CurvePoint:
    """The adapter at one rank, the most that any layer has."""

    rank: int
    energy: float  # share of Σ‖Δ‖² over all layers that is kept, in [0, 1]
    megabytes: float  # of the weights in the file


def rank_curve(adapter: Adapter, dtype: torch.dtype = torch.float16) -> tuple[CurvePoint, ...]:
    """Energy and size at ranks from 1 to the full one, at which nothing is lost.

    Each layer is truncated to its best change of that rank in the Frobenius norm (Eckart–Young),
    computed from its factors: no (out, in) matrix is built. Files of all formats have that size.
    """
    spectra = [
        singular_values(delta.up, delta.down)
        for delta in (scaled_delta(layer, 1.0) for layer in adapter.layers.values())
    ]
    widths = [layer.up.shape[0] + layer.down.shape[1] for layer in adapter.layers.values()]
    total = sum(float(spectrum.square().sum()) for spectrum in spectra)
    full = max(len(spectrum) for spectrum in spectra)
    points = []
    for rank in (*(step for step in STEPS if step < full), full):
        energy_kept = sum(float(spectrum[:rank].square().sum()) for spectrum in spectra)
        entries = sum(
            min(rank, len(spectrum)) * width
            for spectrum, width in zip(spectra, widths, strict=True)
        )
        energy = energy_kept / total if total else 1.0
        points.append(CurvePoint(rank, energy, entries * dtype.itemsize / 2**20))
    return tuple(points)


def truncate_rank(adapter: Adapter, rank: Rank) -> Adapter:
    """The adapter with no layer above this rank (Eckart–Young, layer by layer).

    Raises MergeError for a number below 1.
    """
    if isinstance(rank, int) and rank < 1:
        raise MergeError(f"The rank must be at least 1, not {rank}.")
    return replace(
        adapter,
        layers={name: _truncate_layer(layer, rank) for name, layer in adapter.layers.items()},
    )


def _truncate_layer(layer: LoraLayer, rank: Rank) -> LoraLayer:
    delta, _ = truncate(scaled_delta(layer, 1.0), rank)
    return LoraLayer(delta.up.float(), delta.down.float(), alpha=float(delta.rank))
