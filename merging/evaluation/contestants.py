"""Who competes in the benchmark: every way to have several concepts, merged or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.evaluation.peft_merges import Combination, peft_merged
from merging.options import Compose, preset_options
from merging.python_api import merge
from merging.request import MergeRequest, Source
from merging.runtime.progress import Progress

Combined = list[list[tuple[Adapter, float]]]  # what to draw with: for all pictures, or by concept
Combine = Callable[[Base, Sequence[Adapter], Progress], Combined]

# RegMean and its like as their papers have them: each LoRA on its own prompts.
PAPER = {"teacher": "single", "mode": "delta"}


@dataclass(frozen=True)
class Contestant:
    """One way; adapters come to ``combine`` with their triggers set."""

    title: str
    combine: Combine
    compose: Compose = "sum"
    options: Mapping[str, Any] | None = None  # of the MergeRequest, where it is one
    merges: bool = False  # into one adapter


def merged(title: str, **options: Any) -> Contestant:
    """One of our methods, with these options of the MergeRequest."""

    def combine(base: Base, adapters: Sequence[Adapter], progress: Progress) -> Combined:
        request = MergeRequest(tuple(map(Source, adapters)), **options)
        return [[(merge(request, base, progress).adapter, 1.0)]]

    return Contestant(title, combine, options=options, merges=True)


def by_peft(combination: Combination) -> Contestant:
    """One of peft's."""

    def combine(_base: Base, adapters: Sequence[Adapter], _progress: Progress) -> Combined:
        return [[(peft_merged(adapters, combination), 1.0)]]

    return Contestant(f"peft {combination}", combine, merges=True)


def _nothing(_base: Base, _adapters: Sequence[Adapter], _progress: Progress) -> Combined:
    return [[]]


def _each(_base: Base, adapters: Sequence[Adapter], _progress: Progress) -> Combined:
    return [[(adapter, 1.0)] for adapter in adapters]


def _all(_base: Base, adapters: Sequence[Adapter], _progress: Progress) -> Combined:
    return [[(adapter, 1.0) for adapter in adapters]]


def _cut(base: Base, adapters: Sequence[Adapter], progress: Progress) -> Combined:
    """The sum, cut to the largest rank among the LoRAs."""
    rank = max(layer.rank for adapter in adapters for layer in adapter.layers.values())
    return merged("", method="sum", rank=rank).combine(base, adapters, progress)


CONTESTANTS: Mapping[str, Contestant] = {
    "base": Contestant("base, no LoRA", _nothing),
    "each": Contestant("each LoRA by itself", _each),
    "stack": Contestant("all LoRAs active, unmerged", _all),
    "sum": merged("sum", method="sum"),
    "average": merged("average", method="average"),
    "svd": Contestant("sum, cut by SVD to one LoRA's rank", _cut, merges=True),
    "ties": merged("TIES", method="ties"),
    "dare": merged("DARE", method="dare"),
    "tsv": merged("TSV", method="tsv"),
    "knots": merged("KnOTS", method="knots"),
    "do-merging": merged("DO-Merging", method="do-merging"),
    "lora-lego": merged("LoRA-LEGO", method="lora-lego"),
    "dc-merge": merged("DC-Merge", method="dc-merge"),
    "peft-cat": by_peft("cat"),
    "peft-svd": by_peft("svd"),
    "peft-ties": by_peft("ties"),
    "peft-dare": by_peft("dare_linear"),
    "regmean": merged("RegMean", method="regmean", **PAPER),
    "mix-of-show": merged("Mix-of-Show's objective", method="mix-of-show", **PAPER),
    "iteris": merged("IterIS, preset paper", method="iteris", **preset_options("paper")),
    "composed": merged(
        "IterIS, composed teacher", method="iteris", teacher="composed", mode="delta"
    ),
    "residual": merged(
        "IterIS, composed teacher and residual",
        method="iteris",
        teacher="composed",
        mode="delta+residual",
    ),
    "taught": merged(
        "IterIS, preset best (taught by TSV of two, and residual)",
        method="iteris",
        **preset_options("best"),
    ),
    "gated": Contestant("gated at sampling time, no merge", _all, compose="gated"),
}
QUICK = ("base", "each", "sum", "tsv", "regmean", "iteris", "composed", "taught", "gated")
