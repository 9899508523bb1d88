"""The batch job: several merges in the worker thread."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

from PIL import Image

from app.jobs.merge import save_merge
from app.jobs.models import Bases
from app.jobs.progress import Emit, report_steps
from app.jobs.sources import read_request
from app.schemas.batch import BatchCell, BatchOrder, BatchResult
from app.schemas.draw import DrawOrder, Picture
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from merging.batch import MATRIX, BatchMerge, OutputFormat, batch, batch_stem, plan_batch
from merging.batch.matrix import PictureScene, Settings, axes, place
from merging.engine import MergeResult
from merging.io.png import save_png
from merging.options import Sampler, option_values
from merging.request import MergeRequest, Source
from merging.runtime.progress import Stop, check


def batch_job(bases: Bases, order: BatchOrder, folder: Path, emit: Emit, stop: Stop) -> None:
    """Make every merge and the zip in ``folder``; emit Steps, merges and the BatchResult."""
    progress, name = report_steps(emit), order.merge.base
    first_method = replace(order.merge, method=order.methods[0])
    base_of = partial(bases.get, name, order.merge.precision, progress)
    request = read_request(first_method, lambda layer: base_of().weight(layer))
    merges = plan_batch(request, order.methods, order.strengths, dict(order.varied))
    based = order.scene or any(planned.request.based for planned in merges)
    base = base_of() if based else None
    check(stop)
    path = folder / f"{batch_stem(request)}.zip"

    made, drawn = dict[str, FinishedMerge](), list[tuple[Settings, Picture]]()

    def save_one(planned: BatchMerge, result: MergeResult) -> None:
        subfolder = folder / planned.stem
        subfolder.mkdir()
        merged_on = base if planned.request.based else None
        single = _single_order(order.merge, planned.request)
        made[planned.stem] = save_merge(single, result, merged_on, subfolder)
        emit(made[planned.stem])

    def save_picture(planned: BatchMerge, image: Image.Image) -> None:
        scene = order.drawn(made[planned.stem])
        assert scene is not None  # or nothing would have been drawn
        file = folder / planned.stem / f"{planned.stem}.png"
        save_png(image, file)
        title = f"Merged ({made[planned.stem].method})"
        caption = " · ".join(planned.settings.values())
        picture = Picture(file, caption, (), "merged", title, scene.prompt, scene.seed)
        drawn.append((planned.settings, picture))
        emit(picture)

    output = OutputFormat(
        name,
        dtype=order.merge.dtype,
        on_merge=save_one,
        scene=_scene(order.scene) if order.scene else None,
        on_picture=save_picture,
    )
    rows = batch(merges, path, base, output, progress, stop)
    sheet = _matrix(path, folder) if order.scene else None
    emit(BatchResult(order, path, rows, _cells(drawn), sheet))


def _scene(order: DrawOrder) -> PictureScene:
    """How every merge is drawn: the order's first prompt and seed."""
    return PictureScene(
        order.prompts[0],
        order.seed,
        order.steps,
        order.guidance,
        order.negative.strip(),
        cast(Sampler, order.sampler),
        order.size,
    )


def _cells(drawn: Sequence[tuple[Settings, Picture]]) -> tuple[BatchCell, ...]:
    """The pictures on the axes of the matrix."""
    if not drawn:
        return ()
    names = axes([settings for settings, _ in drawn])
    return tuple(BatchCell(*place(settings, names), picture) for settings, picture in drawn)


def _matrix(archive: Path, folder: Path) -> Path:
    """The matrix of a batch, taken out of its zip."""
    with zipfile.ZipFile(archive) as bundle:
        (name,) = (name for name in bundle.namelist() if name.endswith(f"/{MATRIX}"))
        (folder / MATRIX).write_bytes(bundle.read(name))
    return folder / MATRIX


def _single_order(order: MergeOrder, request: MergeRequest) -> MergeOrder:
    """The order of one merge of a batch; strengths of parts keep their proportion to the whole."""

    def with_strengths(pick: SelectedFile, source: Source) -> SelectedFile:
        strength = source.strength
        factors = (source.text_encoder, source.unet)
        te, unet = (None if factor == 1 else factor * strength for factor in factors)
        return replace(pick, strength=strength, text_encoder=te, unet=unet)

    picks = tuple(map(with_strengths, order.picks, request.sources))
    return replace(order, **option_values(request) | {"picks": picks})
