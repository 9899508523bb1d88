"""The batch job: several merges in the worker thread."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from app.jobs.merge import save_merge
from app.jobs.models import Bases
from app.jobs.progress import Emit, report_steps
from app.jobs.sources import read_request
from app.schemas.batch import BatchOrder, BatchResult
from app.schemas.merge import MergeOrder, SelectedFile
from merging.batch import BatchMerge, OutputFormat, batch, batch_stem, plan_batch
from merging.engine import MergeResult
from merging.request import MergeRequest, Source
from merging.runtime.progress import Stop, check


def batch_job(bases: Bases, order: BatchOrder, folder: Path, emit: Emit, stop: Stop) -> None:
    """Make every merge and the zip in ``folder``; emit Steps, merges and the BatchResult."""
    progress, name = report_steps(emit), order.merge.base
    first_method = replace(order.merge, method=order.methods[0])
    base_of = partial(bases.get, name, order.merge.precision, progress)
    request = read_request(first_method, lambda layer: base_of().weight(layer))
    merges = plan_batch(request, order.methods, order.strengths)
    base = base_of() if any(planned.request.based for planned in merges) else None
    check(stop)
    path = folder / f"{batch_stem(request)}.zip"

    def save_one(planned: BatchMerge, result: MergeResult) -> None:
        subfolder = folder / planned.stem
        subfolder.mkdir()
        emit(save_merge(_single_order(order.merge, planned.request), result, base, subfolder))

    output = OutputFormat(name, dtype=order.merge.dtype, on_merge=save_one)
    rows = batch(merges, path, base, output, progress, stop)
    emit(BatchResult(order, path, rows))


def _single_order(order: MergeOrder, request: MergeRequest) -> MergeOrder:
    """The order of one merge of a batch; strengths of parts keep their proportion to the whole."""

    def with_strengths(pick: SelectedFile, source: Source) -> SelectedFile:
        strength = source.strength
        factors = (source.text_encoder, source.unet)
        te, unet = (None if factor == 1 else factor * strength for factor in factors)
        return replace(pick, strength=strength, text_encoder=te, unet=unet)

    picks = tuple(map(with_strengths, order.picks, request.sources))
    return replace(order, picks=picks, method=request.method)
