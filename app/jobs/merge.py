"""The merge job in the worker thread."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from app.jobs.models import Bases
from app.jobs.progress import Emit, ProgressReporter
from app.jobs.sources import read_request
from app.schemas.card import span
from app.schemas.merge import FinishedMerge, MergeOrder
from app.schemas.task import folder_around
from merging.diffusion.base import Base
from merging.engine import MergeResult
from merging.export.recipe import recipe
from merging.export.save import Saved, recipe_base, save
from merging.io.file_names import file_stem
from merging.methods import METHODS
from merging.python_api import merge
from merging.request import MergeRequest
from merging.runtime.progress import Progress, Stop, check


def merge_job(bases: Bases, order: MergeOrder, folder: Path, emit: Emit, stop: Stop) -> None:
    """Read the files, merge, save into ``folder``; emit Steps and at the end the FinishedMerge."""
    reporter = ProgressReporter(emit)
    base_of = partial(bases.get, order.base, order.precision, reporter.progress)
    request = read_request(order, lambda layer: base_of().weight(layer))
    base = base_of() if request.based else None
    check(stop)
    emit(make_merge(order, request, base, folder, reporter, reporter.progress, stop))


def make_merge(
    order: MergeOrder,
    request: MergeRequest,
    base: Base | None,
    folder: Path,
    reporter: ProgressReporter,
    progress: Progress,
    stop: Stop,
) -> FinishedMerge:
    """Merge and save; ``reporter`` gets the solved layers."""
    based = base if request.based else None
    checkpoint = folder_around(folder) / "refining"  # outlives a job that is stopped
    result = merge(request, based, progress, stop, reporter.watch, checkpoint)
    saved = save_merge(order, result, based, folder)
    shutil.rmtree(checkpoint, ignore_errors=True)
    return saved


def save_merge(
    order: MergeOrder, result: MergeResult, base: Base | None, folder: Path
) -> FinishedMerge:
    """Save the files of a merge in ``folder``; returns what the page shows of it."""
    merged_on = recipe_base(base, order.base)
    saved: dict[str, Saved] = {}
    for form, path in _paths(order, result, folder).items():
        with_embeddings = form == "kohya"  # the other files need the same textual inversions
        saved[form] = save(result, path, form, order.dtype, base, merged_on, with_embeddings)
    kohya = saved["kohya"]
    ranks = [layer.rank for layer in result.adapter.layers.values()]
    return FinishedMerge(
        order=order,
        method=METHODS[order.method].title,
        **{form: file.path for form, file in saved.items()},
        words=tuple(Path(file["path"]) for file in kohya.embeddings),
        trigger=result.adapter.trigger,
        layers=len(ranks),
        ranks=span(ranks),
        seconds=result.report.seconds,
        notes=(*result.report.notes, *kohya.notes),
        checks=tuple(f"{form} file, {file.written.sentence}" for form, file in saved.items()),
        recipe={**recipe(result.request, *merged_on)},
        report=result.report.as_dict(),
        shifts=bool(result.adapter.shifts),
    )


def _paths(order: MergeOrder, result: MergeResult, folder: Path) -> dict[str, Path]:
    """Format → path: kohya, diffusers, and full where a LoRA file cannot hold all changes."""
    request = result.request
    labels = [source.phrase or source.adapter.name for source in request.sources]
    stem = file_stem(order.method, labels)
    endings = {"kohya": "", "diffusers": "_diffusers"}
    if result.adapter.shifts or request.rank == "full":
        endings["full"] = "_full"
    return {form: folder / f"{stem}{ending}.safetensors" for form, ending in endings.items()}
