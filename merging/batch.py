"""Several merges of the same LoRAs at once: every method with every strength, all in one zip.

Inside: an adapter and its recipe for each, and summary.csv with what there is to compare them by.
The same request gives the same bytes, so the summary has no times in it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from merging.diffusion.base import Base
from merging.engine import MergeResult
from merging.errors import FileError, MergeError
from merging.export.recipe import recipe
from merging.export.save import recipe_base, save
from merging.io.file_names import file_stem, plain
from merging.io.zip_archive import Archive, archive
from merging.methods import METHODS
from merging.python_api import merge
from merging.report import LayerReport
from merging.request import MergeRequest, Source
from merging.runtime.progress import Progress, Stop, check, never, part, saying

MOST = 256  # merges of one batch
SUMMARY = "summary.csv"


@dataclass(frozen=True)
class Cell:
    """One merge of a batch."""

    stem: str  # of its files' names
    request: MergeRequest


@dataclass(frozen=True)
class Row:
    """What there is to say of one merge; means are over its layers, None where nothing is known."""

    stem: str
    method: str
    strengths: tuple[float, ...]
    layers: int = 0
    largest_rank: int = 0
    bytes: int = 0
    error: float | None = None  # left on the prompts, of layers solved from them; 1: as if unmerged
    sum_error: float | None = None  # what the plain sum would leave there
    kept_energy: float | None = None  # by the wanted rank
    sha256: str = ""
    problem: str = ""  # why there is no such merge


@dataclass(frozen=True)
class Filing:
    """How the files of a batch are written."""

    base_name: str = ""
    form: str = "kohya"
    dtype: str = "fp16"
    made: Callable[[Cell, MergeResult], None] | None = None  # is given every merge of it, too


def cells(
    request: MergeRequest, methods: Sequence[str], strengths: Sequence[Sequence[float]] = ()
) -> tuple[Cell, ...]:
    """Every method with every combination of strengths, the last LoRA's changing fastest.

    ``strengths`` has a list for each source in order, or is empty; an empty list leaves the
    source's own. Strengths of parts keep their proportion to the whole. Raises MergeError if a
    combination is no merge, or there are none or more than MOST.
    """
    lists = strengths or [()] * len(request.sources)
    if len(lists) != len(request.sources):
        raise MergeError(
            f"Strengths were given for {len(lists)} LoRAs, and there are {len(request.sources)}; "
            "give one list each."
        )
    tried = [
        tuple(dict.fromkeys(listed)) or (source.strength,)
        for listed, source in zip(lists, request.sources, strict=True)
    ]
    chosen = tuple(dict.fromkeys(methods))
    count = len(chosen) * prod(map(len, tried))
    if not 1 <= count <= MOST:
        raise MergeError(f"A batch has 1 to {MOST} merges, not {count}; take some out.")
    combinations = list(product(chosen, product(*tried)))
    requests = [_at(request, method, values) for method, values in combinations]
    return tuple(Cell(_stem(place, each), each) for place, each in enumerate(requests, start=1))


def batch(
    listed: Sequence[Cell],
    out: Path,
    base: Base | None,
    filing: Filing,
    progress: Progress,
    stop: Stop = never,
) -> tuple[Row, ...]:
    """Make every merge and the zip at ``out``; what went wrong with one is in its row.

    Raises MergeError if all went wrong or the zip cannot be written, Cancelled once ``stop`` is
    true; there is no zip then.
    """
    folder = batch_stem(listed[0].request)
    rows = []
    with archive(out) as bundle:
        for place, cell in enumerate(listed):
            ahead = part(progress, place / len(listed), (place + 1) / len(listed))
            words = f"{place + 1} of {len(listed)}, {METHODS[cell.request.method].title}"
            check(stop)
            rows.append(_made(cell, bundle, folder, base, filing, saying(ahead, words), stop))
        if all(row.problem for row in rows):
            raise MergeError(rows[0].problem)
        bundle.add(f"{folder}/{SUMMARY}", _as_csv(rows, listed[0].request).encode())
    return tuple(rows)


def batch_stem(request: MergeRequest) -> str:
    """What a batch of these LoRAs is called, and the folder in its zip."""
    return file_stem("batch", list(map(_label, request.sources)))


def table_of(rows: Sequence[Row], request: MergeRequest) -> list[tuple[object, ...]]:
    """The summary: titles, then a line for every merge; "" where nothing is known."""
    names = [f"strength of {source.adapter.name}" for source in request.sources]
    titles = ("merge", "method", *names, "layers", "largest rank", "bytes")
    measured = ("error left", "error of the plain sum", "kept energy", "SHA-256", "problem")
    return [(*titles, *measured), *map(_line, rows)]


def shown(value: object) -> str:
    """A cell of the summary in words."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _line(row: Row) -> tuple[object, ...]:
    problem = f"not made: {row.problem}" if row.problem else ""
    told = (row.layers, row.largest_rank, row.bytes, row.error, row.sum_error, row.kept_energy)
    known = ("" if value is None or row.problem else value for value in told)
    return (row.stem, row.method, *row.strengths, *known, row.sha256, problem)


def _as_csv(rows: Sequence[Row], request: MergeRequest) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [shown(value) for value in line] for line in table_of(rows, request)
    )
    return text.getvalue()


def _at(request: MergeRequest, method: str, strengths: Sequence[float]) -> MergeRequest:
    sources = tuple(
        replace(source, strength=strength)
        for source, strength in zip(request.sources, strengths, strict=True)
    )
    return replace(request, method=method, sources=sources)


def _label(source: Source) -> str:
    return source.phrase or source.adapter.name


def _stem(place: int, request: MergeRequest) -> str:
    """03_iteris_sks-cat_0.8+vxz-pizza_1; the number keeps long names apart."""
    words = [f"{plain(_label(source))}_{source.strength:g}" for source in request.sources]
    return f"{place:02d}_{request.method}_" + "+".join(words)[:120]


def _made(
    cell: Cell,
    bundle: Archive,
    folder: str,
    base: Base | None,
    filing: Filing,
    progress: Progress,
    stop: Stop,
) -> Row:
    """One merge into the archive: its adapter, its words' vectors, its recipe."""
    request = cell.request
    row = Row(cell.stem, request.method, tuple(source.strength for source in request.sources))
    try:
        result = merge(request, base, progress, stop)
        if filing.made:
            filing.made(cell, result)
        with TemporaryDirectory(prefix="iteris-batch-") as own:
            row = _filed(row, Path(own), result, base, filing)
            for path in sorted(Path(own).iterdir()):
                bundle.add(f"{folder}/{path.name}", path)
    except FileError as error:
        raise error.system from None  # a full disk is no fault of this one merge
    except MergeError as error:
        return replace(row, problem=str(error))
    return row


def _filed(row: Row, folder: Path, result: MergeResult, base: Base | None, filing: Filing) -> Row:
    """The files of one merge in a folder of their own, and what they are."""
    path = folder / f"{row.stem}.safetensors"
    merged_on = recipe_base(base, filing.base_name)
    saved = save(result, path, filing.form, filing.dtype, base, merged_on)
    text = json.dumps(recipe(result.request, *merged_on), indent=2, ensure_ascii=False)
    (folder / f"{row.stem}.json").write_text(text + "\n", encoding="utf-8")
    return replace(
        _measured(row, result.report.layers),
        bytes=path.stat().st_size,
        sha256=saved.written.sha256,
    )


def _measured(row: Row, layers: Sequence[LayerReport]) -> Row:
    solved = [layer.objective for layer in layers if layer.objective]
    return replace(
        row,
        layers=len(layers),
        largest_rank=max(layer.rank for layer in layers),
        error=fmean(each["merged"] for each in solved) if solved else None,
        sum_error=fmean(each["sum"] for each in solved) if solved else None,
        kept_energy=fmean(layer.kept_energy for layer in layers),
    )
