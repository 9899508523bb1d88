"""What runs in the worker thread when several merges are wanted at once."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from app.jobs.merge import saved_merge
from app.jobs.models import Bases
from app.jobs.progress import Emit, stepping
from app.jobs.sources import request_of
from app.schemas.batch import BatchOrder, BatchResult
from app.schemas.merge import MergeOrder, SelectedFile
from merging.batch import Cell, Filing, batch, batch_stem, cells
from merging.engine import MergeResult
from merging.request import MergeRequest, Source
from merging.runtime.progress import Stop, check


def batch_job(bases: Bases, order: BatchOrder, folder: Path, emit: Emit, stop: Stop) -> None:
    """Make the zip in ``folder``, emit Steps, every FinishedMerge, and the BatchResult."""
    progress, name = stepping(emit), order.merge.base
    first = replace(order.merge, method=order.methods[0])
    base_of = partial(bases.get, name, order.merge.precision, progress)
    request = request_of(first, lambda layer: base_of().weight(layer))
    listed = cells(request, order.methods, order.strengths)
    base = base_of() if any(cell.request.based for cell in listed) else None
    check(stop)
    archive = folder / f"{batch_stem(request)}.zip"

    def made(cell: Cell, result: MergeResult) -> None:
        own = folder / cell.stem
        own.mkdir()
        emit(saved_merge(_alone(order.merge, cell.request), result, base, own))

    filing = Filing(name, dtype=order.merge.dtype, made=made)
    rows = batch(listed, archive, base, filing, progress, stop)
    emit(BatchResult(order, archive, rows))


def _alone(order: MergeOrder, request: MergeRequest) -> MergeOrder:
    """The order that makes one merge of a batch, strengths of parts in proportion to the whole."""

    def at(pick: SelectedFile, source: Source) -> SelectedFile:
        whole = source.strength
        te, unet = (None if x == 1 else x * whole for x in (source.text_encoder, source.unet))
        return replace(pick, strength=whole, text_encoder=te, unet=unet)

    picks = tuple(map(at, order.picks, request.sources))
    return replace(order, picks=picks, method=request.method)
