"""Taking a merge home: another precision, rank or name, and all that belongs to it in one file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from app.jobs.models import Bases
from app.schemas.draw import Picture
from app.schemas.export import FORMS, Export, ExportOrder
from app.schemas.merge import FinishedMerge
from merging import formats
from merging.analysis.rank_curve import CurvePoint, cut, rank_curve
from merging.diffusion.base import Base
from merging.errors import FileError, MergeError
from merging.export.convert import kept
from merging.export.model_card import SourceNote, model_card, source_note
from merging.export.save import Saved, save_adapter
from merging.io.file_names import file_stem
from merging.io.zip_archive import archive
from merging.options import merge_options, read_rank

MOST_PICTURES = 16


def curve(merged: FinishedMerge, dtype: str = "fp16") -> tuple[CurvePoint, ...]:
    """Energy and size of the merge at smaller ranks."""
    return rank_curve(formats.read(merged.kohya, name=merged.kohya.name), formats.DTYPES[dtype])


def take(bases: Bases, order: ExportOrder, folder: Path) -> Export:
    """Write the files into ``folder``; FileError where they cannot be written.

    diffusers loads the adapter too where the base is at hand: loaded, and no job at work with it.
    """
    if order.form not in FORMS or order.dtype not in formats.DTYPES:
        raise MergeError(f"There is no {order.form} file in {order.dtype}; choose from the lists.")
    stem = file_stem("", [order.name])[1:] if order.name.strip() else self_explaining(order)
    content = folder / stem
    try:
        content.mkdir()
        with bases.at_hand(order.merged.order.base, order.merged.order.precision) as base:
            saved = _adapter(order, content / f"{stem}.safetensors", base)
        _beside(order, content, saved)
        bundle = _zipped(content, folder / f"{stem}.zip")
    except OSError as error:
        text = f"The files cannot be written ({error.strerror}): make room."
        raise FileError(text, error) from error
    return Export(saved.path, bundle, content, saved.written.sentence)


def _adapter(order: ExportOrder, file: Path, base: Base | None) -> Saved:
    """The merge's adapter at the precision and rank that are wanted."""
    adapter = formats.read(order.source, name=order.source.name)
    rank = read_rank(order.rank)
    merge_options()["rank"].check(rank)
    smaller = replace(adapter if rank == "exact" else cut(adapter, rank), name=file.stem)
    return save_adapter(smaller, file, order.form, order.dtype, kept(adapter.metadata), base)


def self_explaining(order: ExportOrder) -> str:
    """iteris_sks-cat+vxz-pizza, and after it whatever is not as usual."""
    stem = order.merged.kohya.stem
    rank = "" if order.rank == "exact" else f"_r{order.rank}"
    dtype = "" if order.dtype == "fp16" else f"_{order.dtype}"
    return f"{stem}{rank}{dtype}" + ("" if order.form == "kohya" else f"_{order.form}")


def notes_on(merged: FinishedMerge) -> list[SourceNote]:
    """What the sources' files say of their licences."""
    return [
        source_note(pick.name, formats.overview(pick.path, name=pick.name).metadata)
        for pick in merged.order.picks
    ]


def _beside(order: ExportOrder, content: Path, saved: Saved) -> None:
    """Recipe, report, words' vectors, pictures and README."""
    merged = order.merged
    _text(content / "recipe.json", json.dumps(merged.recipe, indent=2, ensure_ascii=False))
    _text(content / "report.json", json.dumps(merged.report, indent=1, ensure_ascii=False))
    pictures = _pictures(order.pictures, content)
    for path in merged.words:
        _copied(path, content / path.name)
    card = model_card(
        saved.path.stem,
        merged.recipe,
        notes_on(merged),
        merged.trigger,
        [saved.path.name, *(path.name for path in merged.words)],
        [saved.written.sentence],
        pictures,
    )
    _text(content / "README.md", card)


def _pictures(pictures: Sequence[Picture], content: Path) -> list[tuple[str, str]]:
    """The comparison's pictures as (caption, name) in a folder of their own."""
    if pictures:
        (content / "pictures").mkdir()
    told = []
    for place, picture in enumerate(pictures[:MOST_PICTURES]):
        name = f"pictures/{place:02d}_{picture.path.name}"
        _copied(picture.path, content / name)
        told.append((picture.caption, name))
    return told


def _copied(source: Path, target: Path) -> None:
    try:
        target.write_bytes(source.read_bytes())
    except FileNotFoundError as error:
        raise MergeError(
            "Some pictures are gone: they were removed with an older visit. Draw again, or reload."
        ) from error


def _text(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")


def _zipped(content: Path, path: Path) -> Path:
    """All of it in one file; the same content, the same bytes."""
    with archive(path) as bundle:
        for inner in sorted(inner for inner in content.rglob("*") if inner.is_file()):
            bundle.add(f"{content.name}/{inner.relative_to(content).as_posix()}", inner)
    return path
