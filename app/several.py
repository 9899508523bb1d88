"""What runs in the worker thread when several merges are wanted at once."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from app.batches import Batched, BatchOrder
from app.jobs import Bases, Emit, request_of, stepping
from merging.batch import Filing, batch, batch_stem, cells
from merging.progress import Stop, check


def batch_job(bases: Bases, order: BatchOrder, folder: Path, emit: Emit, stop: Stop) -> None:
    """Make the zip in ``folder``, emit Steps and at the end the Batched."""
    progress, name = stepping(emit), order.merge.base
    first = replace(order.merge, method=order.methods[0])
    base_of = partial(bases.get, name, order.merge.precision, progress)
    request = request_of(first, lambda layer: base_of().weight(layer))
    listed = cells(request, order.methods, order.strengths)
    base = base_of() if any(cell.request.based for cell in listed) else None
    check(stop)
    archive = folder / f"{batch_stem(request)}.zip"
    filing = Filing(name, dtype=order.merge.dtype)
    rows = batch(listed, archive, base, filing, progress, stop)
    emit(Batched(order, archive, rows))
