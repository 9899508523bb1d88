"""Where LoRAs get in each other's way, before any merge: computed from their factors alone.

For every pair, with all strengths applied, block by block (Σ over a block's layers):
    cosine   Σ⟨Δ_i, Δ_j⟩ / (‖Δ_i‖ ‖Δ_j‖): 1 the same change, −1 the opposite one
    overlap  ‖Δ_i P_j‖ ‖Δ_j P_i‖ / (‖Δ_i‖ ‖Δ_j‖), P_j the projector on the inputs that Δ_j reads:
             1 if both react to the same inputs, 0 if neither sees what moves the other
    chance   the overlap that unrelated changes of these ranks have on average, √(r_i r_j) / in
    ratio    ‖Δ_i‖ / ‖Δ_j‖
No (out, in) matrix is built: P_j = D_jᵀ (D_j D_jᵀ)⁺ D_j of the factor D_j (rank, in).
Which inputs really occur depends on the prompts; these numbers show where to look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import inf
from typing import Protocol

import torch
from torch import Tensor

from merging.adapter import Adapter
from merging.block_weights import BLOCKS
from merging.blocks import blocks
from merging.formats.layer_tables import table_of
from merging.linalg.delta import Delta, inner_product, scaled_delta
from merging.request import Source

REST = "rest"  # layers outside all blocks
RANK_TOLERANCE = 1e-10  # eigenvalues of D Dᵀ below this share of the largest are rounding
# Thresholds of the advice: chosen by hand, no measured limits of what can be merged.
LOUD_RATIO, SHARED_OVERLAP, OPPOSITE_COSINE, ALIKE_COSINE = 2.0, 0.1, -0.1, 0.5


class Weights(Protocol):
    """Anything with a LoRA's strengths, such as a Source."""

    @property
    def strength(self) -> float: ...
    @property
    def text_encoder(self) -> float: ...
    @property
    def unet(self) -> float: ...
    @property
    def blocks(self) -> Mapping[str, float] | None: ...


@dataclass(frozen=True)
class BlockConflict:
    """Two LoRAs in one block, or in all of them."""

    block: str
    cosine: float
    overlap: float
    chance: float
    ratio: float

    @property
    def shared(self) -> float:
        """The overlap beyond chance, in [0, 1]."""
        return max(self.overlap - self.chance, 0.0) / max(1 - self.chance, 1e-9)


@dataclass(frozen=True)
class PairConflict:
    """Two LoRAs: all layers together, and block by block."""

    names: tuple[str, str]
    strengths: tuple[float, float]
    whole: BlockConflict
    blocks: tuple[BlockConflict, ...]  # blocks that one of them changes, in the order of BLOCKS

    @property
    def silent(self) -> bool:
        """Whether one of them is at strength 0."""
        return not all(self.strengths)

    @property
    def severity(self) -> float:
        """How bad a pair is, to sort by: the largest figure relative to its threshold."""
        louder = max(self.whole.ratio, 1 / self.whole.ratio) if not self.silent else 0.0
        alike = self.whole.cosine / (ALIKE_COSINE if self.whole.cosine > 0 else OPPOSITE_COSINE)
        return max(self.whole.shared / SHARED_OVERLAP, louder / LOUD_RATIO, alike)


@dataclass
class BlockSums:
    """Energies of a block, summed over its layers."""

    energy: list[float] = field(default_factory=lambda: [0.0, 0.0])
    seen: list[float] = field(default_factory=lambda: [0.0, 0.0])  # ‖Δ_i P_j‖², ‖Δ_j P_i‖²
    expected: list[float] = field(default_factory=lambda: [0.0, 0.0])  # the same by chance
    common: float = 0.0  # ⟨Δ_i, Δ_j⟩

    def scaled(self, one: float, other: float) -> BlockSums:
        """The sums with Δ_i and Δ_j multiplied by these; at 0 there is no overlap."""
        scales = (one**2, other**2)
        energy, seen, expected = (
            [scale * size for scale, size in zip(scales, sizes, strict=True)]
            for sizes in (self.energy, self.seen, self.expected)
        )
        if not (one and other):
            seen = expected = [0.0, 0.0]
        return BlockSums(energy, seen, expected, one * other * self.common)

    def conflict(self, block: str) -> BlockConflict:
        """The figures of these sums; all 0 where a LoRA changes nothing."""
        one, other = self.energy
        size = (one * other) ** 0.5
        if not size:
            return BlockConflict(block, 0.0, 0.0, 0.0, inf if one else 0.0)
        overlap, chance = (
            (max(a, 0.0) * max(b, 0.0)) ** 0.5 / size for a, b in (self.seen, self.expected)
        )
        return BlockConflict(block, self.common / size, overlap, chance, (one / other) ** 0.5)


SumsByBlock = Mapping[str, BlockSums]  # by block, at strength 1


def conflicts(sources: Sequence[Source]) -> tuple[PairConflict, ...]:
    """Every pair of the sources, at their strengths."""
    return tuple(
        pair_at_strengths(
            (one.adapter.name, other.adapter.name),
            one,
            other,
            sums_by_block(one.adapter, other.adapter),
        )
        for one, other in combinations(sources, 2)
    )


def sums_by_block(one: Adapter, other: Adapter) -> SumsByBlock:
    """Sums of two LoRAs of one base at strength 1, by block: the only slow step."""
    places = blocks(table_of(one))
    sums: dict[str, BlockSums] = {}
    for layer in dict.fromkeys([*one.layers, *other.layers]):
        block = sums.setdefault(places.get(layer, REST), BlockSums())
        _add_layer(block, *(_delta(adapter, layer) for adapter in (one, other)))
    return {block: sums[block] for block in (*BLOCKS, REST) if block in sums}


def pair_at_strengths(
    names: tuple[str, str], one: Weights, other: Weights, unweighted: SumsByBlock
) -> PairConflict:
    """The conflict of two LoRAs at their strengths, from their sums at strength 1."""
    sums = {
        block: item.scaled(_strength(one, block), _strength(other, block))
        for block, item in unweighted.items()
    }
    changed = tuple(item.conflict(block) for block, item in sums.items() if any(item.energy))
    return PairConflict(
        names, (one.strength, other.strength), _total(sums).conflict("all"), changed
    )


def _delta(adapter: Adapter, layer: str) -> Delta | None:
    return scaled_delta(adapter.layers[layer], 1.0) if layer in adapter.layers else None


def _strength(source: Weights, block: str) -> float:
    """The factor of every layer in a block."""
    part = source.text_encoder if block == "BASE" else source.unet
    weight = 1.0 if source.blocks is None or block == REST else source.blocks.get(block, 0.0)
    return source.strength * part * weight


def advice(pair: PairConflict) -> list[str]:
    """Sentences on what the figures mean and what to try; the figures do not see pictures."""
    if pair.silent:
        name = pair.names[0 if not pair.strengths[0] else 1]
        return [f"{name} is at strength 0, so it meets nothing."]
    return [*_loudness(pair), *_direction(pair), _sharing(pair)]


def _loudness(pair: PairConflict) -> list[str]:
    ratio = pair.whole.ratio
    if 1 / LOUD_RATIO < ratio < LOUD_RATIO:
        return []
    loud = 0 if ratio > 1 else 1
    times = max(ratio, 1 / ratio)
    name, other = pair.names[loud], pair.names[1 - loud]
    return [
        f"{name} changes the model {times:.1f} times as much as {other} and may drown it; strength "
        f"{pair.strengths[loud] / times:.2f} for {name} makes them equal."
    ]


def _direction(pair: PairConflict) -> list[str]:
    cosine = pair.whole.cosine
    if cosine >= ALIKE_COSINE:
        return [
            f"They make much the same change (cosine {cosine:.2f}), which a sum counts twice: try "
            "half the strength for each, or leave one out."
        ]
    if cosine <= OPPOSITE_COSINE:
        worst = min(pair.blocks, key=lambda block: block.cosine)
        return [
            f"They partly undo each other (cosine {cosine:.2f}), most in {title(worst.block)}; "
            "block weights can turn one of them down there."
        ]
    return []


def _sharing(pair: PairConflict) -> str:
    whole = pair.whole
    numbers = f"overlap {whole.overlap:.0%}, where chance alone gives {whole.chance:.0%}"
    if whole.shared < SHARED_OVERLAP:
        return f"They hardly react to the same inputs ({numbers}): even a plain sum may keep both."
    ranked = sorted(pair.blocks, key=lambda block: -block.shared)
    most = " and ".join(title(block.block) for block in ranked[:2])
    return (
        f"They react to the same inputs ({numbers}), most in {most}: a sum mixes them there. "
        "Try IterIS taught by prompts that name both, or lower strengths."
    )


def title(block: str) -> str:
    """A block's name in a sentence."""
    return {"BASE": "the text encoder", REST: "layers outside all blocks"}.get(block, block)


def _add_layer(sums: BlockSums, one: Delta | None, other: Delta | None) -> None:
    """Add one layer to the sums of its block."""
    energies = [inner_product(delta, None, delta) if delta else 0.0 for delta in (one, other)]
    sums.energy = [a + b for a, b in zip(sums.energy, energies, strict=True)]
    if one is None or other is None:
        return
    sums.common += inner_product(one, None, other)
    width = one.down.shape[1]
    for i, (delta, reader) in enumerate(((one, other), (other, one))):
        inverse, rank = _pseudo_inverse(reader.down @ reader.down.T)
        overlap = delta.down @ reader.down.T
        sums.seen[i] += ((delta.up.T @ delta.up) * (overlap @ inverse @ overlap.T)).sum().item()
        sums.expected[i] += energies[i] * rank / width


def _pseudo_inverse(gram: Tensor) -> tuple[Tensor, int]:
    """(D Dᵀ)⁺ and the rank of D."""
    sizes, vectors = torch.linalg.eigh(gram)
    nonzero = sizes > RANK_TOLERANCE * sizes[-1].clamp_min(0)
    inverse = torch.where(nonzero, 1 / torch.where(nonzero, sizes, 1.0), 0.0)
    return (vectors * inverse) @ vectors.T, int(nonzero.sum())


def _total(parts: Mapping[str, BlockSums]) -> BlockSums:
    total = BlockSums()
    for part in parts.values():
        for name in ("energy", "seen", "expected"):
            pairs = zip(getattr(total, name), getattr(part, name), strict=True)
            setattr(total, name, [a + b for a, b in pairs])
        total.common += part.common
    return total
