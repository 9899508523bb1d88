"""What the weights alone tell of files that one should look at before trusting them.

Shared LoRAs may carry a change that nobody was told of, and that survives a merge (LoRATK: Liu et
al. 2024, arXiv:2403.00108). A finding is a number that is unusual, never a verdict; and a file
without findings is not thereby safe. Of a file alone:

    loud block  root mean square of Δ in a block, against the median of the file's blocks

Of several files together, with ⟨Δ, Δ'⟩ summed over all layers:

    twin        cosine ⟨Δ, Δ'⟩ / ‖Δ‖‖Δ'‖ of two files with different bytes
    loud file   root mean square of Δ in the median block, against the median of the other files
    lone layers a few layers that one file changes and none of the others, which agree
    persistent  median over layers of σ₁ / max_j ‖Δ_j v₁‖, v₁ the input that Δ answers most: times
                a small strength, how loud the file still is where it speaks

The thresholds lie beyond everything in the bundled LoRAs, which `python -m merging inspect
assets/loras/*.safetensors --values` shows: no block of one is 5 times its median, no two have a
cosine above 0.2, and no median of σ₁ / max_j ‖Δ_j v₁‖ is above 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf
from statistics import median

import torch

from merging.adapter import Adapter, LoraLayer
from merging.blocks import blocks
from merging.errors import MergeError
from merging.formats.layer_tables import table_of
from merging.linalg.delta import Delta, inner_product, scaled_delta

LOUD_BLOCK = 8.0  # times the median block of the file
LOUD_FILE = 8.0  # times the median of the other files
TWIN_COSINE = 0.95
SMALL_STRENGTH = 0.1  # at which a usual LoRA is hardly seen
PERSISTENT = 1 / SMALL_STRENGTH  # σ₁ over the others' answers: as loud as they at small strength
AGREEMENT = 0.9  # of the other files' layers, shared by all of them: files that are alike
LONE_SHARE = 0.25  # of a file's layers: beyond it, the file was trained on other layers
POWER_STEPS = 12  # of the power iteration for v₁; the ratio needs no digits


@dataclass(frozen=True)
class Finding:
    """One unusual number."""

    kind: str  # "loud block", "twin", "loud file", "lone layers" or "persistent"
    files: tuple[str, ...]
    number: float
    sentence: str  # what was found, and what to do


def file_findings(adapter: Adapter) -> tuple[Finding, ...]:
    """What is unusual in one file."""
    levels = block_levels(adapter)
    usual = median(levels.values()) if levels else 0.0
    if not usual:
        return ()
    block, level = max(levels.items(), key=lambda pair: pair[1])
    times = level / usual
    if times < LOUD_BLOCK:
        return ()
    return (
        Finding(
            "loud block",
            (adapter.name,),
            times,
            f"{adapter.name}: its change in block {block} is {times:.0f} times that of its median "
            f"block (usually less than {LOUD_BLOCK:g}). Draw it alone without its trigger words, "
            f"or set the weight of {block} to 0.",
        ),
    )


def findings(adapters: Sequence[Adapter]) -> tuple[Finding, ...]:
    """What is unusual in these files, alone and together; equal files count once."""
    distinct = list({adapter.sha256 or adapter.name: adapter for adapter in adapters}.values())
    results = [finding for adapter in distinct for finding in file_findings(adapter)]
    for one, other in combinations(distinct, 2):
        results += _twins(one, other)
    if len(distinct) > 1:
        for adapter in distinct:
            others = [other for other in distinct if other is not adapter]
            results += [*_loud(adapter, others), *_persistent(adapter, others)]
            results += _lone_layers(adapter, others) if len(others) > 1 else []
    return tuple(results)


def block_levels(adapter: Adapter) -> dict[str, float]:
    """Block → root mean square of Δ's entries, over the block's layers."""
    block_of = _blocks_of(adapter)
    sums: dict[str, list[float]] = {}
    for name, layer in adapter.layers.items():
        energy, entries = sums.setdefault(block_of.get(name, "rest"), [0.0, 0.0])
        size = layer.up.shape[0] * layer.down.shape[1]
        sums[block_of.get(name, "rest")] = [energy + layer.energy, entries + size]
    return {block: (energy / entries) ** 0.5 for block, (energy, entries) in sums.items()}


def _blocks_of(adapter: Adapter) -> Mapping[str, str]:
    """Layer → block; empty for a base model that has no table of layers."""
    try:
        return blocks(table_of(adapter))
    except MergeError:
        return {}


def cosine(one: Adapter, other: Adapter) -> float:
    """⟨Δ, Δ'⟩ / ‖Δ‖‖Δ'‖ over all layers; 0 where one of them changes nothing."""
    common = sum(
        inner_product(scaled_delta(layer, 1.0), None, scaled_delta(other.layers[name], 1.0))
        for name, layer in one.layers.items()
        if _same_shape(layer, other.layers.get(name))
    )
    sizes = [sum(layer.energy for layer in adapter.layers.values()) for adapter in (one, other)]
    return common / (sizes[0] * sizes[1]) ** 0.5 if all(sizes) else 0.0


def persistence(adapter: Adapter, others: Sequence[Adapter]) -> float:
    """Median over shared layers of σ₁ / max_j ‖Δ_j v₁‖; 0 if no layer is shared."""
    ratios = [
        _layer_persistence(scaled_delta(layer, 1.0), answering)
        for name, layer in adapter.layers.items()
        if (answering := _deltas(name, layer, others))
    ]
    return median(ratios) if ratios else 0.0


def _layer_persistence(delta: Delta, others: Sequence[Delta]) -> float:
    direction = _strongest_input(delta)
    effect = float((delta.up @ (delta.down @ direction)).norm())
    others_effect = max(float((other.up @ (other.down @ direction)).norm()) for other in others)
    return effect / others_effect if others_effect else (inf if effect else 0.0)


def _strongest_input(delta: Delta) -> torch.Tensor:
    """v₁ of Δ, (in,), by power iteration on the factors."""
    start = delta.down[delta.down.norm(dim=1).argmax()]
    direction = start
    for _ in range(POWER_STEPS):
        size = direction.norm()
        if not size:
            return start
        direction = delta.down.T @ (delta.up.T @ (delta.up @ (delta.down @ (direction / size))))
    return direction / direction.norm().clamp_min(torch.finfo(direction.dtype).tiny)


def _deltas(name: str, layer: LoraLayer, adapters: Sequence[Adapter]) -> list[Delta]:
    """The changes of this layer in other files."""
    layers = (adapter.layers.get(name) for adapter in adapters)
    return [scaled_delta(each, 1.0) for each in layers if each and _same_shape(layer, each)]


def _twins(one: Adapter, other: Adapter) -> list[Finding]:
    alike = cosine(one, other)
    if alike < TWIN_COSINE:
        return []
    sentence = (
        f"{one.name} and {other.name} change the model almost alike (cosine {alike:.3f}): one may "
        "be an altered copy of the other. Use the one whose origin you know, or lower both "
        "strengths, since the change counts twice."
    )
    return [Finding("twin", (one.name, other.name), alike, sentence)]


def _loud(adapter: Adapter, others: Sequence[Adapter]) -> list[Finding]:
    usual = median(_level(other) for other in others)
    times = _level(adapter) / usual if usual else 0.0
    if times < LOUD_FILE:
        return []
    sentence = (
        f"{adapter.name}: its change is {times:.0f} times that of the other files (usually less "
        f"than {LOUD_FILE:g}), so it may decide the merge alone. Lower its strength to "
        f"{1 / times:.2g}, or leave it out."
    )
    return [Finding("loud file", (adapter.name,), times, sentence)]


def _level(adapter: Adapter) -> float:
    levels = block_levels(adapter).values()
    return median(levels) if levels else 0.0


def _persistent(adapter: Adapter, others: Sequence[Adapter]) -> list[Finding]:
    times = persistence(adapter, others)
    if times < PERSISTENT:
        return []
    sentence = (
        f"{adapter.name}: even at strength {SMALL_STRENGTH:g}, it changes its own inputs "
        f"{_compared(times * SMALL_STRENGTH)} any other file does at strength 1, so it survives "
        "the merge. Draw the merge without any trigger words, and leave the file out if you see "
        "it there."
    )
    return [Finding("persistent", (adapter.name,), times, sentence)]


def _compared(times: float) -> str:
    if times == inf:
        return "incomparably more than"
    return "as much as" if times < 1.5 else f"{times:.0f} times as much as"


def _lone_layers(adapter: Adapter, others: Sequence[Adapter]) -> list[Finding]:
    touched = [set(other.layers) for other in others]
    union, common = set.union(*touched), set.intersection(*touched)
    lone = set(adapter.layers) - union
    few = 0 < len(lone) <= LONE_SHARE * len(adapter.layers)  # more is another choice of layers
    if not few or len(common) < AGREEMENT * len(union):
        return []
    energies = {name: layer.energy for name, layer in adapter.layers.items()}
    share = sum(energies[name] for name in lone) / (sum(energies.values()) or 1.0)
    sentence = (
        f"{adapter.name} alone changes {len(lone)} layers that no other file changes, such as "
        f"{min(lone)} ({share:.0%} of its change): nothing in the merge balances them. Draw it "
        "alone without its trigger words, or leave it out."
    )
    return [Finding("lone layers", (adapter.name,), float(len(lone)), sentence)]


def _same_shape(one: LoraLayer, other: LoraLayer | None) -> bool:
    if other is None:
        return False
    return one.up.shape[0] == other.up.shape[0] and one.down.shape[1] == other.down.shape[1]


def sentences(results: Sequence[Finding]) -> list[str]:
    """The findings' sentences."""
    return [finding.sentence for finding in results]
