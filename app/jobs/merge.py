"""What runs in the worker thread: a merge, and the base models that all jobs share."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from app.jobs.models import Bases
from app.jobs.progress import Emit, Telling
from app.jobs.sources import request_of
from app.schemas.card import span
from app.schemas.merge import Merged, MergeOrder
from merging import formats
from merging.diffusion.base import Base
from merging.diffusion.calibrate import activations
from merging.diffusion.loader_check import checked
from merging.engine import MergeResult, merge
from merging.export.recipe import header, recipe
from merging.export.sidecar import sentences, write_words
from merging.io.file_names import file_stem
from merging.methods import METHODS
from merging.request import MergeRequest
from merging.runtime.progress import Stop, check


def merge_job(bases: Bases, order: MergeOrder, folder: Path, emit: Emit, stop: Stop) -> None:
    """Read, merge, write both files into ``folder``, emit Steps and at the end the Merged."""
    told = Telling(emit)
    progress = told.progress
    base_of = partial(bases.get, order.base, order.precision, progress)
    request = request_of(order, lambda layer: base_of().weight(layer))
    base = base_of() if request.based else None
    check(stop)
    result = merge(request, activations(base) if base else None, progress, stop, told.watch)
    emit(written(order, request, result, folder, base))


def written(
    order: MergeOrder, request: MergeRequest, result: MergeResult, folder: Path, base: Base | None
) -> Merged:
    """Both files on disk, and what the page says of them; a base that is at hand loads them."""
    labels = [source.phrase or source.adapter.name for source in request.sources]
    stem = file_stem(order.method, labels)
    files = {"kohya": folder / f"{stem}.safetensors"}
    files["diffusers"] = folder / f"{stem}_diffusers.safetensors"
    if result.adapter.shifts or request.rank == "full":  # no LoRA holds these, or not as small
        files["full"] = folder / f"{stem}_full.safetensors"
    origin = (order.base, base.fingerprint, base.precision) if base else (order.base,)
    metadata = header(request, result, *origin)
    dtype = formats.DTYPES[order.dtype]
    found = {
        form: formats.WRITERS[form](result.adapter, path, dtype, metadata)
        for form, path in files.items()
    }
    if base:
        for form, path in files.items():
            found[form] = checked(base, path, result.adapter, found[form])
    words = write_words(result.adapter, files["kohya"])
    title = METHODS[order.method].title
    report = json.loads(json.dumps(result.report.as_dict()))
    return Merged(
        order=order,
        method=title,
        **files,
        words=tuple(Path(each["path"]) for each in words),
        trigger=result.adapter.trigger,
        layers=len(result.adapter.layers),
        ranks=span([layer.rank for layer in result.adapter.layers.values()]),
        seconds=result.report.seconds,
        notes=(*result.report.notes, *sentences(words)),
        checks=tuple(f"{form} file, {each.sentence}" for form, each in found.items()),
        recipe=recipe(request, *origin),
        report=report,
        shifts=bool(result.adapter.shifts),
    )
