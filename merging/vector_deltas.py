"""Merging the changes of biases and normalisations: methods sum them at the LoRAs' strengths.

A method merges linear maps; these are vectors. Their sum is the result of loading all LoRAs
together. Only the averages, whose strengths are relative, average the vectors as well: a sum would
be too strong beside averaged layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from merging.adapter import VectorDelta
from merging.errors import MergeError
from merging.formats.vector_deltas import count_by_kind, describe_counts, vector_lengths
from merging.linalg.closed_form import LayerProblem
from merging.linalg.delta import MERGED_DTYPE, Delta, sum_vector_deltas
from merging.methods import METHODS, Method
from merging.request import MergeRequest, Source

VectorDeltas = Mapping[str, VectorDelta]  # layer or normalisation → change of its vectors


def scaled_shifts(source: Source) -> VectorDeltas:
    """Those of one LoRA with all strengths folded in, float64; MergeError if not finite."""
    shifts = source.weighted_adapter.shifts
    scaled = {module: shift.scaled(source.strength) for module, shift in shifts.items()}
    for module, shift in scaled.items():
        if not all(vector.isfinite().all() for vector in shift.vectors().values()):
            raise MergeError(
                f"{source.adapter.name}: the vectors of {module} have values that are not finite "
                "numbers; its training failed or the file is damaged, so use another version."
            )
    return scaled


def merge_shifts(
    shifts: Sequence[VectorDeltas], method: Method, problem: Callable[[str], LayerProblem]
) -> dict[str, VectorDelta]:
    """Their sum or average, without vectors of zeros; ``problem`` has strengths and steps."""
    merged = _average(shifts, method, problem) if method.averages else sum_vector_deltas(shifts)
    return {
        module: shift.to(torch.device("cpu"), MERGED_DTYPE)
        for module, shift in merged.items()
        if any(vector.any() for vector in shift.vectors().values())
    }


def _average(
    shifts: Sequence[VectorDeltas], method: Method, problem: Callable[[str], LayerProblem]
) -> dict[str, VectorDelta]:
    """Every vector by the method itself, as the change of a layer with one input."""
    unit = torch.ones(1, 1, dtype=torch.float64)
    averages = {}
    for module, total in sum_vector_deltas(shifts).items():
        averaged = {}
        for name in total.vectors():
            vectors = [lora.get(module, VectorDelta()).vectors().get(name) for lora in shifts]
            deltas = tuple(None if v is None else Delta(v[:, None], unit) for v in vectors)
            averaged[name] = method.solve(replace(problem(module), deltas=deltas)).dense()[:, 0]
        averages[module] = VectorDelta(**averaged)
    return averages


def notes(request: MergeRequest, merged: VectorDeltas) -> list[str]:
    """Notes for the report: the textual inversions, and how vectors were merged."""
    sentences = []
    if request.all_embeddings:
        words = ", ".join(f"{it.word} (of {it.source})" for it in request.all_embeddings)
        sentences.append(f"Textual inversions, which are written to separate files: {words}.")
    if merged:
        names = ", ".join(it.adapter.name for it in request.sources if it.adapter.shifts)
        how = (
            "were averaged as the layers were"
            if METHODS[request.method].averages
            else "were summed at the LoRAs' strengths; methods merge weight matrices only"
        )
        counts = describe_counts(count_by_kind(vector_lengths(merged)))
        sentences.append(f"{counts} (of {names}) {how}.")
    return sentences
