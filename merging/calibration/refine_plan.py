"""The plan of a refinement, from the request and the merge to begin with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from merging.adapter import VectorDelta
from merging.calibration.plan import RefinePlan
from merging.calibration.prompts import plain_prompts_of
from merging.linalg.delta import Delta
from merging.request import MergeRequest
from merging.runtime.phases import Phases


def refine_plan(
    request: MergeRequest,
    deltas: Sequence[Mapping[str, Delta]],
    shifts: Sequence[Mapping[str, VectorDelta]],
    start: Mapping[str, Delta],
    start_shifts: Mapping[str, VectorDelta],
    phases: Phases,
) -> RefinePlan:
    """Layers of the start that change nothing are left out, and stay away."""
    return RefinePlan(
        names=tuple(source.adapter.name for source in request.sources),
        phrases=tuple(source.words for source in request.sources),
        prompts=tuple(plain_prompts_of(source.prompts) for source in request.sources),
        deltas=tuple(deltas),
        shifts=tuple(shifts),
        start={name: delta for name, delta in start.items() if delta.rank and delta.up.any()},
        start_shifts=start_shifts,
        steps=request.refine,
        seed=request.seed,
        clip_skip=request.clip_skip,
        embeddings=request.all_embeddings,
        phases=phases,
    )
