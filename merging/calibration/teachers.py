"""Teachers: the models whose outputs on prompts with two concepts the merge imitates.

single    none: there are no such prompts, as in the paper
composed  the gate: each LoRA acts on its phrase and region alone (merging/diffusion/gate.py)
sum       both LoRAs added up, the usual way to combine LoRAs
tsv       both on directions made orthogonal (merging/methods/tsv.py)

A concept LoRA often acts through all tokens of a prompt, end and padding included, which a gate
does not allow. A merge of the two LoRAs does. Every pair has its own merge, a "composite", since a
merge of many LoRAs draws each of them worse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from merging.adapter import VectorDelta
from merging.calibration.prompts import LoraPair
from merging.calibration.row_sets import composite_pairs
from merging.linalg.closed_form import LayerProblem
from merging.linalg.delta import Delta, sum_vector_deltas
from merging.methods import METHODS
from merging.request import MergeRequest


def composite_deltas(
    request: MergeRequest, layers: Sequence[str], problem: Callable[[str], LayerProblem]
) -> tuple[Mapping[str, Delta], ...]:
    """Layer → merged change of the two LoRAs, for every pair that its merge teaches."""
    return tuple(_composite(request, pair, layers, problem) for pair in composite_pairs(request))


def composite_shifts(
    request: MergeRequest, shifts: Sequence[Mapping[str, VectorDelta]]
) -> tuple[Mapping[str, VectorDelta], ...]:
    """Sum of both LoRAs' changes of biases and normalisations, for every such pair."""
    return tuple(sum_vector_deltas(shifts[i] for i in pair) for pair in composite_pairs(request))


def _composite(
    request: MergeRequest,
    pair: LoraPair,
    layers: Sequence[str],
    problem: Callable[[str], LayerProblem],
) -> Mapping[str, Delta]:
    """The pair's merge by the teacher's method, on all ``layers`` that the pair has."""

    def pair_problem(layer: str) -> LayerProblem:
        whole = problem(layer)
        deltas = (delta if i in pair else None for i, delta in enumerate(whole.deltas))
        return replace(whole, deltas=tuple(deltas))

    problems = {layer: pair_problem(layer) for layer in layers}
    solve = METHODS[request.teacher].solve
    return {layer: solve(problems[layer]) for layer in layers if problems[layer].present}
