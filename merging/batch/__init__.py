"""Several merges of the same LoRAs at once: methods, strengths and options, all in one zip.

The zip has an adapter and a recipe per merge, and summary.csv to compare them; with a prompt, a
picture per merge and all of them as matrix.png. The same request gives the same bytes, so the
summary has no times in it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import accumulate, product
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from merging.batch.matrix import PictureScene, Settings, matrix
from merging.batch.one_merge import BatchMerge, BatchRow, Made, OutputFormat, cost, make
from merging.batch.spread import BatchWork, made_by
from merging.diffusion.base import Base
from merging.errors import MergeError
from merging.io.file_names import file_stem, plain
from merging.io.zip_archive import archive
from merging.methods import METHODS
from merging.request import MergeRequest, Source
from merging.runtime.progress import Progress, Stop, check, never, part, prefixed
from merging.workers import Workers

MAX_MERGES = 256  # merges of one batch
FORMULA_STARTS = ("=", "+", "-", "@", "\t")
SUMMARY, MATRIX = "summary.csv", "matrix.png"
NOTHING: Mapping[str, Sequence[Any]] = {}  # no option is varied


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
    return _write(merges, out, output.scene, _made_here(merges, base, output, progress, stop))


def spread_batch(
    work: BatchWork, out: Path, workers: Workers, progress: Progress
) -> tuple[BatchRow, ...]:
    """As `batch`, with the merges spread over workers: the same bytes."""
    return _write(work.merges, out, work.output.scene, made_by(workers, work, progress))


def _made_here(
    merges: Sequence[BatchMerge],
    base: Base | None,
    output: OutputFormat,
    progress: Progress,
    stop: Stop,
) -> Generator[Made, None, None]:
    """Every merge in order; its files go when the next one is asked for."""
    costs = [0.0, *accumulate(cost(planned, output.scene) for planned in merges)]
    for place, planned in enumerate(merges):
        ahead = part(progress, costs[place] / costs[-1], costs[place + 1] / costs[-1])
        title = f"{place + 1} of {len(merges)}, {METHODS[planned.request.method].title}"
        check(stop)
        with TemporaryDirectory(prefix="iteris-batch-") as folder:
            yield make(planned, Path(folder), base, output, prefixed(ahead, title), stop)


def _write(
    merges: Sequence[BatchMerge],
    out: Path,
    scene: PictureScene | None,
    all_made: Generator[Made, None, None],
) -> tuple[BatchRow, ...]:
    """The zip, of merges in their order."""
    folder = batch_stem(merges[0].request)
    rows, cells = [], list[tuple[Settings, Image.Image | None]]()
    with archive(out) as bundle, closing(all_made):
        for planned, made in zip(merges, all_made, strict=True):
            rows.append(made.row)
            cells.append((planned.settings, made.image))
            if not made.row.problem:
                for path in sorted(made.folder.iterdir()):
                    bundle.add(f"{folder}/{path.name}", path)
        if all(row.problem for row in rows):
            raise MergeError(rows[0].problem)
        if scene:
            bundle.add(f"{folder}/{MATRIX}", _png(matrix(cells, scene)))
        bundle.add(f"{folder}/{SUMMARY}", _summary_csv(rows, merges[0].request).encode())
    return tuple(rows)


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
    """A value in a table: spreadsheets would run a text, or a line of it, that is a formula."""
    if not isinstance(value, str):
        return format_value(value)
    text = " ".join(value.splitlines())  # Python's csv does not quote a lone carriage return
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA_STARTS) else text


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
