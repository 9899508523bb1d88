"""One merge of a batch: its files in a folder, its row of the summary, and its picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from PIL import Image

from merging.batch.matrix import PictureScene, Settings, draw_merge
from merging.calibration.cost import merge_cost
from merging.diffusion.base import Base
from merging.engine import MergeResult
from merging.errors import FileError, MergeError
from merging.export.recipe import recipe
from merging.export.save import recipe_base, save
from merging.io.png import save_png
from merging.python_api import merge
from merging.report import LayerReport
from merging.request import MergeRequest
from merging.runtime.progress import Progress, Stop, part


@dataclass(frozen=True)
class BatchMerge:
    """One merge of a batch."""

    stem: str  # of its files
    request: MergeRequest
    settings: Settings  # what it was made with: axis of the matrix → its label


@dataclass(frozen=True)
class BatchRow:
    """One merge in the summary; means are over its layers, None where nothing is known."""

    stem: str
    method: str
    strengths: tuple[float, ...]
    layers: int = 0
    largest_rank: int = 0
    bytes: int = 0
    error: float | None = None  # on the calibration prompts, of layers solved from them
    sum_error: float | None = None  # of the plain sum, on the same prompts
    kept_energy: float | None = None  # at the rank of the result
    sha256: str = ""
    problem: str = ""  # why the merge failed


@dataclass(frozen=True)
class OutputFormat:
    """Base model, format and dtype of the files of a batch."""

    base_name: str = ""
    form: str = "kohya"
    dtype: str = "fp16"
    on_merge: Callable[[BatchMerge, MergeResult], None] | None = None  # called with every merge
    scene: PictureScene | None = None  # to draw every merge; this needs the base
    on_picture: Callable[[BatchMerge, Image.Image], None] | None = None  # with every picture


@dataclass(frozen=True)
class Made:
    """A merge that was made, or that failed."""

    row: BatchRow
    image: Image.Image | None  # of the merge, if it is drawn
    folder: Path  # with its files


def make(
    planned: BatchMerge,
    folder: Path,
    base: Base | None,
    output: OutputFormat,
    progress: Progress,
    stop: Stop,
) -> Made:
    """Merge, and write the adapter, its recipe and its picture, if it is drawn, in ``folder``.

    A MergeError is the row's problem. Raises OSError, which stops the whole batch, if a file cannot
    be written, and Cancelled once ``stop`` is true.
    """
    request, image = planned.request, None
    row = BatchRow(
        planned.stem, request.method, tuple(source.strength for source in request.sources)
    )
    try:
        middle = merge_cost(request) / cost(planned, output.scene)
        result = merge(request, base, part(progress, 0.0, middle), stop)
        if output.on_merge:
            output.on_merge(planned, result)
        row = _save_merge(row, folder, result, base, output)
        if output.scene and base:
            file = folder / f"{row.stem}.safetensors"
            drawing = part(progress, middle, 1.0)
            image = draw_merge(base, file, result.adapter, output.scene, drawing, stop)
            save_png(image, file.with_suffix(".png"))
            if output.on_picture:
                output.on_picture(planned, image)
    except FileError as error:
        raise error.system from None
    except MergeError as error:
        return Made(replace(row, problem=str(error)), None, folder)
    return Made(row, image, folder)


def cost(planned: BatchMerge, scene: PictureScene | None) -> float:
    """What a merge and its picture cost, in predictions of the UNet."""
    return merge_cost(planned.request) + (2 * scene.steps if scene else 0)


def _save_merge(
    row: BatchRow, folder: Path, result: MergeResult, base: Base | None, output: OutputFormat
) -> BatchRow:
    """Save the files of one merge in ``folder``; returns its row with their size and hash."""
    path = folder / f"{row.stem}.safetensors"
    merged_on = recipe_base(base, output.base_name)
    saved = save(result, path, output.form, output.dtype, base, merged_on)
    text = json.dumps(recipe(result.request, *merged_on), indent=2, ensure_ascii=False)
    (folder / f"{row.stem}.json").write_text(text + "\n", encoding="utf-8")
    return replace(
        _with_figures(row, result.report.layers),
        bytes=path.stat().st_size,
        sha256=saved.written.sha256,
    )


def _with_figures(row: BatchRow, layers: Sequence[LayerReport]) -> BatchRow:
    solved = [layer.objective for layer in layers if layer.objective]
    return replace(
        row,
        layers=len(layers),
        largest_rank=max(layer.rank for layer in layers),
        error=fmean(objective["merged"] for objective in solved) if solved else None,
        sum_error=fmean(objective["sum"] for objective in solved) if solved else None,
        kept_energy=fmean(layer.kept_energy for layer in layers),
    )
