"""The contestants of the benchmark: all ways to combine several concepts, merged or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.diffusion.compose import COMPOSITIONS
from merging.evaluation.peft_merges import Combination, merge_with_peft
from merging.presets import preset_options
from merging.python_api import merge
from merging.request import MergeRequest, Source
from merging.runtime.progress import Progress

# To draw with: one set for all pictures, or one per concept.
AdapterSets = list[list[tuple[Adapter, float]]]
Combine = Callable[[Base, Sequence[Adapter], Progress], AdapterSets]

# RegMean and Mix-of-Show as in their papers: the teacher is each LoRA alone.
PAPER = {"teacher": "single", "mode": "delta"}


@dataclass(frozen=True)
class Contestant:
    """A way to combine LoRAs; ``combine`` gets adapters with their triggers set."""

    title: str
    combine: Combine
    compose: str = "sum"  # a name of COMPOSITIONS
    options: Mapping[str, Any] | None = None  # of the MergeRequest, if it has one
    merges: bool = False  # into one adapter


def merged(title: str, **options: Any) -> Contestant:
    """A method of this project, with these options of the MergeRequest."""

    def combine(base: Base, adapters: Sequence[Adapter], progress: Progress) -> AdapterSets:
        request = MergeRequest(tuple(map(Source, adapters)), **options)
        return [[(merge(request, base, progress).adapter, 1.0)]]

    return Contestant(title, combine, options=options, merges=True)


def peft_contestant(combination: Combination) -> Contestant:
    """A merge by peft."""

    def combine(_base: Base, adapters: Sequence[Adapter], _progress: Progress) -> AdapterSets:
        return [[(merge_with_peft(adapters, combination), 1.0)]]

    return Contestant(f"peft {combination}", combine, merges=True)


def _nothing(_base: Base, _adapters: Sequence[Adapter], _progress: Progress) -> AdapterSets:
    return [[]]


def _each(_base: Base, adapters: Sequence[Adapter], _progress: Progress) -> AdapterSets:
    return [[(adapter, 1.0)] for adapter in adapters]


def _all(_base: Base, adapters: Sequence[Adapter], _progress: Progress) -> AdapterSets:
    return [[(adapter, 1.0) for adapter in adapters]]


def _cut(base: Base, adapters: Sequence[Adapter], progress: Progress) -> AdapterSets:
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
    "optmerge": merged("OptMerge", method="optmerge"),
    "lora-lego": merged("LoRA-LEGO", method="lora-lego"),
    "dc-merge": merged("DC-Merge", method="dc-merge"),
    "peft-cat": peft_contestant("cat"),
    "peft-svd": peft_contestant("svd"),
    "peft-ties": peft_contestant("ties"),
    "peft-dare": peft_contestant("dare_linear"),
    "regmean": merged("RegMean", method="regmean", **PAPER),
    "mix-of-show": merged("Mix-of-Show's objective", method="mix-of-show", **PAPER),
    "learned-cat": merged("Learned CAT", method="learned-cat", **PAPER),
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
    "refined": merged("TSV, refined in 240 steps", method="tsv", refine=240),
    **{
        name: Contestant(f"{row.title}, no merge", _all, compose=name)
        for name, row in COMPOSITIONS.items()
        if name not in ("sum", "gated")  # both are above; "stack" is the unmerged sum
    },
}
QUICK = ("base", "each", "sum", "tsv", "regmean", "iteris", "composed", "taught", "gated")
