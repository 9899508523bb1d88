"""Who teaches prompts with two concepts.

single    nobody: there are none, as in the paper
composed  the gate: each LoRA on its own words and part of the picture (merging/diffusion/gate.py)
sum       both LoRAs added up, as people use them
tsv       both on directions made orthogonal (merging/methods/tsv.py)

A concept LoRA often speaks through the whole sentence, its end and padding included, which a gate
on words tears apart; a merge of the two does not, and all that IterIS takes from it is how it draws
them together. A merge of many would spoil them all, so each couple has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from merging.adapter import Shift
from merging.calibration.prompts import Couple
from merging.calibration.row_sets import taught_couples
from merging.linalg.closed_form import LayerProblem
from merging.linalg.delta import Delta, total
from merging.methods import METHODS
from merging.request import MergeRequest


def composites_of(
    request: MergeRequest, layers: Sequence[str], problem: Callable[[str], LayerProblem]
) -> tuple[Mapping[str, Delta], ...]:
    """Layer → merged change of the two, for every couple that is taught by its merge."""
    return tuple(_composite(request, couple, layers, problem) for couple in taught_couples(request))


def composite_shifts(
    request: MergeRequest, shifts: Sequence[Mapping[str, Shift]]
) -> tuple[Mapping[str, Shift], ...]:
    """What the two of every such couple add to biases and normalisations, added up."""
    return tuple(total(shifts[i] for i in couple) for couple in taught_couples(request))


def _composite(
    request: MergeRequest,
    couple: Couple,
    layers: Sequence[str],
    problem: Callable[[str], LayerProblem],
) -> Mapping[str, Delta]:
    """The couple's merge on all ``layers`` that it has, by the method that the teacher names."""

    def without_others(layer: str) -> LayerProblem:
        whole = problem(layer)
        own = (delta if i in couple else None for i, delta in enumerate(whole.deltas))
        return replace(whole, deltas=tuple(own))

    problems = {layer: without_others(layer) for layer in layers}
    solve = METHODS[request.teacher].solve
    return {layer: solve(each) for layer, each in problems.items() if each.present}
