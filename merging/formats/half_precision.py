"""Factors for a file: one alpha for all layers, and no change lost to half precision."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from merging.adapter import Adapter, LoraLayer
from merging.errors import MergeError

MAX_LOSS = 0.01  # of a layer's change; rounding alone costs 0.0006 in fp16 and 0.005 in bf16
NEGLIGIBLE = 1e-3  # of the strongest layer's change: losses below MAX_LOSS of this are accepted
MIN_STEPS = 4  # factors that differ in size by less than 2⁸ stay as they are


@dataclass(frozen=True)
class FactorPair:
    """Stored factors, (out, rank) and (rank, in), in the file's dtype."""

    up: Tensor
    down: Tensor

    @property
    def rank(self) -> int:
        """Inner dimension of the factors."""
        return self.down.shape[0]


def common_rank(adapter: Adapter) -> int:
    """The most frequent rank, the larger one on a tie: the alpha of a kohya file."""
    counts = Counter(layer.rank for layer in adapter.layers.values())
    return max(counts, key=lambda rank: (counts[rank], rank))


def stored_factors(
    adapter: Adapter, alpha: float | None, dtype: torch.dtype
) -> dict[str, FactorPair]:
    """The factors of all layers for this alpha (None: alpha = rank), without layers of zeros.

    Raises MergeError if the dtype cannot hold a layer, or no layer is left.
    """
    pairs = {
        name: balanced_factors(layer, float(layer.rank) if alpha is None else alpha)
        for name, layer in adapter.layers.items()
    }
    strongest = max(map(_pair_size, pairs.values()), default=0.0)
    cast = {
        name: _cast_pair(adapter.name, name, pair, dtype, strongest) for name, pair in pairs.items()
    }
    nonzero = {name: pair for name, pair in cast.items() if pair.up.any() and pair.down.any()}
    if not nonzero:
        raise MergeError(f"{adapter.name} changes nothing: all of its layers are zero.")
    return nonzero


def balanced_factors(layer: LoraLayer, alpha: float) -> FactorPair:
    """float64 factors of the layer's change for another alpha.

    Where the column of up and the row of down of one rank component differ much in size, a power of
    two balances them; all others stay, so that the bits of a half-precision file do not change.
    """
    gain = layer.scale / replace(layer, alpha=alpha).scale
    up, down = gain * layer.up.detach().double(), layer.down.detach().double()
    ratio = down.norm(dim=1) / up.norm(dim=0)  # (rank,)
    usable = ratio.isfinite() & (ratio > 0)
    steps = torch.where(usable, ratio.log2().div(2).round(), 0.0)
    root = torch.where(steps.abs() < MIN_STEPS, 0.0, steps).exp2()
    return FactorPair(up * root, down / root[:, None])


def _pair_size(pair: FactorPair) -> float:
    return float(pair.up.norm() * pair.down.norm())


def stored_deltas(adapter: Adapter, dtype: torch.dtype) -> dict[str, Tensor]:
    """Δ (out, in) of all layers, without layers of zeros. Raises as `stored_factors` does."""
    pairs = {
        name: balanced_factors(layer, float(layer.rank)) for name, layer in adapter.layers.items()
    }
    strongest = max(map(_pair_size, pairs.values()), default=0.0)
    deltas = {
        name: _cast_delta(adapter.name, name, pair, dtype, strongest)
        for name, pair in pairs.items()
    }
    nonzero = {name: delta for name, delta in deltas.items() if len(delta)}
    if not nonzero:
        raise MergeError(f"{adapter.name} changes nothing: all of its layers are zero.")
    return nonzero


def _cast_delta(
    title: str, name: str, pair: FactorPair, dtype: torch.dtype, strongest: float
) -> Tensor:
    """The pair's product in the file's dtype, without rows if it is zero.

    MergeError if too much of it is lost.
    """
    # half precision rounds a thousand times more than a float32 product, which takes half the time
    exact = torch.float64 if dtype == torch.float32 else torch.float32
    delta = (pair.up.to(exact) @ pair.down.to(exact)).cpu()
    cast, norm = delta.to(dtype), float(delta.norm())
    loss = delta.sub_(cast).norm()  # a large layer has megabytes: no copy
    if not loss <= MAX_LOSS * max(norm, NEGLIGIBLE * strongest):
        raise _precision_error(title, name, dtype)
    return cast if norm else cast[:0]


def stored_vector(title: str, name: str, vector: Tensor, dtype: torch.dtype) -> Tensor:
    """A vector in the file's dtype; MergeError if too much of it is lost."""
    cast = vector.to("cpu", dtype)
    exact = vector.cpu().double()
    if not (cast.double() - exact).norm() <= MAX_LOSS * exact.norm():
        raise _precision_error(title, name, dtype)
    return cast


def _cast_pair(
    title: str, name: str, pair: FactorPair, dtype: torch.dtype, strongest: float
) -> FactorPair:
    """The pair in the file's dtype; MergeError if values overflow or too much is lost."""
    cast = FactorPair(pair.up.to("cpu", dtype), pair.down.to("cpu", dtype))
    up, down = cast.up.double().cpu(), cast.down.double()
    loss = (up - pair.up.cpu()).norm() * pair.down.norm().cpu()
    loss = loss + up.norm() * (down - pair.down.cpu()).norm()  # ≥ ‖cast product − product‖
    limit = MAX_LOSS * max(_pair_size(pair), NEGLIGIBLE * strongest)
    if not loss <= limit:
        raise _precision_error(title, name, dtype)
    return cast


def _precision_error(title: str, name: str, dtype: torch.dtype) -> MergeError:
    kind = str(dtype).removeprefix("torch.")
    return MergeError(
        f"{title}: layer {name} does not fit into {kind} (its values are too large or too small); "
        "save as fp32."
    )
