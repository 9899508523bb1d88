"""Every merging method, as a table that one can read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from merging.deltas import Delta
from merging.methods.average import average
from merging.methods.iteris import iteris
from merging.methods.regmean import regmean
from merging.methods.sum import weighted_sum
from merging.solve import LayerProblem

Needs = Literal["nothing", "inputs", "merged inputs"]


@dataclass(frozen=True)
class Method:
    """One way to merge a layer, with what a person must know to choose it."""

    title: str
    solve: Callable[[LayerProblem], Delta]
    source: str
    needs: Needs  # "inputs": the layer inputs of each LoRA; "merged inputs": of the merge as well
    strength: str  # what the strengths mean to it
    summary: str  # one sentence for the page


METHODS: dict[str, Method] = {
    "iteris": Method(
        "IterIS",
        iteris,
        "arXiv:2411.15231",
        "merged inputs",
        "the strength at which each LoRA is imitated",
        "Imitates every LoRA on its own prompts, on the inputs that the merged model really has.",
    ),
    "regmean": Method(
        "RegMean",
        regmean,
        "arXiv:2212.09849",
        "inputs",
        "the strength at which each LoRA is imitated",
        "Imitates every LoRA on the inputs it has alone; upstream changes are not seen.",
    ),
    "sum": Method(
        "Weighted sum",
        weighted_sum,
        "arXiv:2212.04089",
        "nothing",
        "each LoRA's multiplier, as in `<lora:name:strength>`",
        "Exactly what loading all LoRAs together does.",
    ),
    "average": Method(
        "Weighted average",
        average,
        "arXiv:2203.05482",
        "nothing",
        "relative: doubling all of them changes nothing",
        "The sum divided by the sum of strengths: gentle, and usually too weak.",
    ),
}
