"""What methods do alike: biases and normalisations are summed, at the LoRAs' strengths.

Their changes are no linear map of a layer's inputs, so there is nothing for a method to solve, cut
or compare. The sum is what all LoRAs loaded together give. The averages alone, to which strengths
are relative, weigh them as they weigh layers: else the vectors would come out too strong for these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from merging.adapter import Shift
from merging.errors import MergeError
from merging.formats.vector_deltas import count_by_kind, describe_counts, vector_lengths
from merging.linalg.closed_form import LayerProblem
from merging.linalg.delta import Delta, total
from merging.methods import METHODS, Method
from merging.request import MergeRequest, Source

Shifts = Mapping[str, Shift]  # layer or normalisation → what is added to its vectors
KEPT = torch.float32  # as of the factors: no file holds more


def shifts_of(source: Source) -> Shifts:
    """Those of one LoRA with every strength folded in, in float64; MergeError if not finite."""
    found = {m: own.scaled(source.strength) for m, own in source.weighted.shifts.items()}
    for module, own in found.items():
        if not all(vector.isfinite().all() for vector in own.vectors().values()):
            raise MergeError(
                f"{source.adapter.name}: the vectors of {module} have values that are not finite "
                "numbers; its training failed or the file is damaged, so take another version."
            )
    return found


def merged_shifts(
    shifts: Sequence[Shifts], method: Method, problem: Callable[[str], LayerProblem]
) -> dict[str, Shift]:
    """Their sum or average, without what is zero; ``problem`` has strengths and steps."""
    found = _averaged(shifts, method, problem) if method.averages else total(shifts)
    return {
        module: own.to(torch.device("cpu"), KEPT)
        for module, own in found.items()
        if any(vector.any() for vector in own.vectors().values())
    }


def _averaged(
    shifts: Sequence[Shifts], method: Method, problem: Callable[[str], LayerProblem]
) -> dict[str, Shift]:
    """Every vector by the method itself, as the change of a layer with one input."""
    unit = torch.ones(1, 1, dtype=torch.float64)
    found = {}
    for module, both in total(shifts).items():
        vectors = {}
        for end in both.vectors():
            own = [each.get(module, Shift()).vectors().get(end) for each in shifts]
            deltas = tuple(None if v is None else Delta(v[:, None], unit) for v in own)
            solved = method.solve(replace(problem(module), deltas=deltas))
            vectors[end] = solved.dense()[:, 0]
        found[module] = Shift(**vectors)
    return found


def notes(request: MergeRequest, merged: Shifts) -> list[str]:
    """What a report says of all that a LoRA cannot hold: words with vectors, and these."""
    found = []
    if request.words:
        told = ", ".join(f"{each.word} (of {each.source})" for each in request.words)
        found.append(
            f"Words with vectors of their own, which no LoRA can hold: {told}; each has a file."
        )
    if merged:
        names = ", ".join(each.adapter.name for each in request.sources if each.adapter.shifts)
        how = (
            "were averaged as the layers were"
            if METHODS[request.method].averages
            else "were summed at the LoRAs' strengths: they are no linear map to solve for"
        )
        counts = describe_counts(count_by_kind(vector_lengths(merged)))
        found.append(f"{counts} (of {names}) {how}.")
    return found
