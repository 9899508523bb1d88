"""Several merges of the same LoRAs at once: methods, strengths and options, all in one zip.

The zip has an adapter and a recipe per merge, and summary.csv to compare them; with a prompt, a
picture per merge and all of them as matrix.png. The same request gives the same bytes, so the
summary has no times in it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, product
from math import prod
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from merging.batch.matrix import PictureScene, Settings, draw_merge, matrix
from merging.calibration.cost import merge_cost
from merging.diffusion.base import Base
from merging.engine import MergeResult
from merging.errors import FileError, MergeError
from merging.export.recipe import recipe
from merging.export.save import recipe_base, save
from merging.io.file_names import file_stem, plain
from merging.io.png import save_png
from merging.io.zip_archive import Archive, archive
from merging.methods import METHODS
from merging.python_api import merge
from merging.report import LayerReport
from merging.request import MergeRequest, Source
from merging.runtime.progress import Progress, Stop, check, never, part, saying

MAX_MERGES = 256  # merges of one batch
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
SUMMARY, MATRIX = "summary.csv", "matrix.png"
NOTHING: Mapping[str, Sequence[Any]] = {}  # no option is varied


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


def plan_batch(
    request: MergeRequest,
    methods: Sequence[str],
    strengths: Sequence[Sequence[float]] = (),
    varied: Mapping[str, Sequence[Any]] = NOTHING,
) -> tuple[BatchMerge, ...]:
    """Every method with every combination of strengths, the last LoRA's changing fastest.

    ``strengths`` has a list per source in order, or is empty; an empty list means the source's
    own strength. Strengths of parts keep their proportion to the whole. ``varied`` has values of
    further options of a merge. Raises MergeError for a combination that cannot be merged, and for
    no merges or more than MAX_MERGES.
    """
    lists = strengths or [()] * len(request.sources)
    if len(lists) != len(request.sources):
        raise MergeError(
            f"There are {len(lists)} lists of strengths for {len(request.sources)} LoRAs; "
            "give one list per LoRA."
        )
    tried = [
        tuple(dict.fromkeys(values)) or (source.strength,)
        for values, source in zip(lists, request.sources, strict=True)
    ]
    chosen = tuple(dict.fromkeys(methods))
    options = [[(name, value) for value in dict.fromkeys(varied[name])] for name in varied]
    count = len(chosen) * prod(map(len, [*tried, *options]))
    if not 1 <= count <= MAX_MERGES:
        raise MergeError(
            f"A batch has 1 to {MAX_MERGES} merges, not {count}; remove some methods or strengths."
        )
    combinations = product(chosen, product(*tried), product(*options))
    return tuple(
        _planned(place, _with_strengths(request, method, values), dict(changes))
        for place, (method, values, changes) in enumerate(combinations, start=1)
    )


def _planned(place: int, request: MergeRequest, changes: Mapping[str, Any]) -> BatchMerge:
    """One merge, with these options changed."""
    request = replace(request, **changes)
    strengths = [f"{_label(source)} {source.strength:g}" for source in request.sources]
    labels = {name: f"{name} {format_value(value)}" for name, value in changes.items()}
    stem = "_".join([_stem(place, request), *(plain(label) for label in labels.values())])
    settings = {"method": METHODS[request.method].title, "strength": " + ".join(strengths)}
    return BatchMerge(stem, request, settings | labels)


def batch(
    merges: Sequence[BatchMerge],
    out: Path,
    base: Base | None,
    output: OutputFormat,
    progress: Progress,
    stop: Stop = never,
) -> tuple[BatchRow, ...]:
    """Make every merge and write the zip at ``out``; a failed merge has the reason in its row.

    Raises MergeError if all merges fail or the zip cannot be written, Cancelled once ``stop`` is
    true; there is no zip then.
    """
    folder = batch_stem(merges[0].request)
    rows, cells = [], list[tuple[Settings, Image.Image | None]]()
    costs = [0.0, *accumulate(_cost(planned, output.scene) for planned in merges)]
    with archive(out) as bundle:
        for place, planned in enumerate(merges):
            ahead = part(progress, costs[place] / costs[-1], costs[place + 1] / costs[-1])
            title = f"{place + 1} of {len(merges)}, {METHODS[planned.request.method].title}"
            check(stop)
            row, image = _add_merge(
                planned, bundle, folder, base, output, saying(ahead, title), stop
            )
            rows.append(row)
            cells.append((planned.settings, image))
        if all(row.problem for row in rows):
            raise MergeError(rows[0].problem)
        if output.scene:
            bundle.add(f"{folder}/{MATRIX}", _png(matrix(cells, output.scene)))
        bundle.add(f"{folder}/{SUMMARY}", _summary_csv(rows, merges[0].request).encode())
    return tuple(rows)


def _cost(planned: BatchMerge, scene: PictureScene | None) -> float:
    """What a merge and its picture cost, in predictions of the UNet."""
    return merge_cost(planned.request) + (2 * scene.steps if scene else 0)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def batch_stem(request: MergeRequest) -> str:
    """The name of a batch of these LoRAs, and of the folder in its zip."""
    return file_stem("batch", list(map(_label, request.sources)))


def summary_table(rows: Sequence[BatchRow], request: MergeRequest) -> list[tuple[object, ...]]:
    """The summary: titles, then a row per merge; "" where nothing is known."""
    names = [f"strength of {source.adapter.name}" for source in request.sources]
    titles = ("merge", "method", *names, "layers", "largest rank", "bytes")
    measured = ("error left", "error of the plain sum", "kept energy", "SHA-256", "problem")
    return [(*titles, *measured), *map(_summary_line, rows)]


def format_value(value: object) -> str:
    """A value of the summary as text."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _summary_line(row: BatchRow) -> tuple[object, ...]:
    problem = f"not made: {row.problem}" if row.problem else ""
    figures = (row.layers, row.largest_rank, row.bytes, row.error, row.sum_error, row.kept_energy)
    known = ("" if value is None or row.problem else value for value in figures)
    return (row.stem, row.method, *row.strengths, *known, row.sha256, problem)


def _summary_csv(rows: Sequence[BatchRow], request: MergeRequest) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [_cell(value) for value in line] for line in summary_table(rows, request)
    )
    return text.getvalue()


def _cell(value: object) -> str:
    """A value in a table: spreadsheets would run a text that begins like a formula."""
    text = format_value(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(FORMULA_STARTS) else text


def _with_strengths(request: MergeRequest, method: str, strengths: Sequence[float]) -> MergeRequest:
    sources = tuple(
        replace(source, strength=strength)
        for source, strength in zip(request.sources, strengths, strict=True)
    )
    return replace(request, method=method, sources=sources)


def _label(source: Source) -> str:
    return source.phrase or source.adapter.name


def _stem(place: int, request: MergeRequest) -> str:
    """03_iteris_sks-cat_0.8+vxz-pizza_1; the number keeps long names apart."""
    names = [f"{plain(_label(source))}_{source.strength:g}" for source in request.sources]
    return f"{place:02d}_{request.method}_" + "+".join(names)[:120]


def _add_merge(
    planned: BatchMerge,
    bundle: Archive,
    folder: str,
    base: Base | None,
    output: OutputFormat,
    progress: Progress,
    stop: Stop,
) -> tuple[BatchRow, Image.Image | None]:
    """Merge, and add the adapter, its recipe and its picture, if it is drawn, to the archive."""
    request = planned.request
    row = BatchRow(
        planned.stem, request.method, tuple(source.strength for source in request.sources)
    )
    try:
        whole = _cost(planned, output.scene)
        middle = merge_cost(request) / whole
        image = None
        result = merge(request, base, part(progress, 0.0, middle), stop)
        if output.on_merge:
            output.on_merge(planned, result)
        with TemporaryDirectory(prefix="iteris-batch-") as temporary:
            row = _save_merge(row, Path(temporary), result, base, output)
            if output.scene and base:
                file = Path(temporary) / f"{row.stem}.safetensors"
                drawing = part(progress, middle, 1.0)
                image = draw_merge(base, file, result.adapter, output.scene, drawing, stop)
                save_png(image, file.with_suffix(".png"))
                if output.on_picture:
                    output.on_picture(planned, image)
            for path in sorted(Path(temporary).iterdir()):
                bundle.add(f"{folder}/{path.name}", path)
    except FileError as error:
        raise error.system from None  # a full disk stops the whole batch
    except MergeError as error:
        return replace(row, problem=str(error)), None
    return row, image


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
