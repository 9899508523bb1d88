"""Files from files: a merge at another precision, rank or name with the rest; packs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, count
from pathlib import Path

from app.jobs.models import Bases
from app.schemas.draw import Picture
from app.schemas.export import FORMS, Export, ExportOrder
from app.schemas.merge import FinishedMerge
from app.schemas.pack import PackedFile, PackOffer
from merging import formats
from merging.adapter import Adapter
from merging.analysis.rank_curve import CurvePoint, rank_curve, truncate_rank
from merging.diffusion.base import Base
from merging.errors import FileError, MergeError
from merging.export.convert import adapter_metadata
from merging.export.model_card import SourceTerms, model_card, terms_of_source
from merging.export.save import Saved, save_adapter
from merging.io.file_names import file_stem
from merging.io.files import PEFT_CONFIG, PEFT_WEIGHTS, file_sha256
from merging.io.hub import NamedFile
from merging.io.zip_archive import archive
from merging.options import merge_options, read_rank
from merging.packs.pack_file import read_packed
from merging.packs.packing import pack
from merging.runtime.progress import Progress, silent

MAX_PICTURES = 16
PLAIN_NAME = re.compile(r"\w[\w .,+()\[\]-]{0,47}")  # can be a file's name anywhere


def curve(merged: FinishedMerge, dtype: str = "fp16") -> tuple[CurvePoint, ...]:
    """Energy and size of the merge at smaller ranks."""
    return rank_curve(formats.read(merged.kohya, name=merged.kohya.name), formats.DTYPES[dtype])


def take(bases: Bases, order: ExportOrder, folder: Path) -> Export:
    """Write the files into ``folder``; FileError where they cannot be written.

    diffusers loads the adapter too if the base model is loaded and no job is using it.
    """
    if order.form not in FORMS or order.dtype not in formats.DTYPES:
        raise MergeError(
            f"Unknown format or precision: {order.form}, {order.dtype}; choose from the lists."
        )
    stem = file_stem("", [order.name])[1:] if order.name.strip() else default_stem(order)
    content = folder / stem
    try:
        content.mkdir()
        with bases.if_idle(order.merged.order.base, order.merged.order.precision) as base:
            name = PEFT_WEIGHTS if order.form == "shira" else f"{stem}.safetensors"
            saved = _write_adapter(order, content / name, base)
        _write_companions(order, content, saved)
        bundle = _zip(content, folder / f"{stem}.zip")
    except OSError as error:
        text = f"The files cannot be written ({error.strerror}): make room."
        raise FileError(text, error) from error
    return Export(saved.path, bundle, content, saved.written.sentence)


def _write_adapter(order: ExportOrder, file: Path, base: Base | None) -> Saved:
    """Write the adapter at the order's precision and rank."""
    if order.form == "shira" and order.merged.full is None:
        raise MergeError("Factors have no zeros: merge with the rank “uncut” to write SHiRA.")
    adapter = formats.read(order.source, name=order.source.name)
    rank = read_rank(order.rank)
    merge_options()["rank"].check(rank)
    truncated = adapter if rank == "exact" else truncate_rank(adapter, rank)
    fields = adapter_metadata(adapter.metadata)
    return save_adapter(truncated, file, order.form, order.dtype, fields, base)


def default_stem(order: ExportOrder) -> str:
    """iteris_sks-cat+vxz-pizza, followed by rank, precision and format that are not the default."""
    stem = order.merged.kohya.stem
    rank = "" if order.rank == "exact" else f"_r{order.rank}"
    dtype = "" if order.dtype == "fp16" else f"_{order.dtype}"
    return f"{stem}{rank}{dtype}" + ("" if order.form == "kohya" else f"_{order.form}")


def source_terms(merged: FinishedMerge) -> list[SourceTerms]:
    """Licences and authors in the headers of the sources' files."""
    return [
        terms_of_source(pick.name, formats.overview(pick.path, name=pick.name).metadata)
        for pick in merged.order.picks
    ]


def _write_companions(order: ExportOrder, content: Path, saved: Saved) -> None:
    """Write recipe, report, textual inversions, pictures and README."""
    merged = order.merged
    _write_text(content / "recipe.json", json.dumps(merged.recipe, indent=2, ensure_ascii=False))
    _write_text(content / "report.json", json.dumps(merged.report, indent=1, ensure_ascii=False))
    beside = [saved.path.name, *([PEFT_CONFIG] if order.form == "shira" else [])]
    pictures = _copy_pictures(order.pictures, content)
    for path in merged.words:
        _copy(path, content / path.name)
    card = model_card(
        content.name,
        merged.recipe,
        source_terms(merged),
        merged.trigger,
        [*beside, *(path.name for path in merged.words)],
        [saved.written.sentence],
        pictures,
    )
    _write_text(content / "README.md", card)


def _copy_pictures(pictures: Sequence[Picture], content: Path) -> list[tuple[str, str]]:
    """Copy the comparison's pictures to ``pictures/``; returns (caption, name) of them."""
    if pictures:
        (content / "pictures").mkdir()
    entries = []
    for place, picture in enumerate(pictures[:MAX_PICTURES]):
        name = f"pictures/{place:02d}_{picture.path.name}"
        _copy(picture.path, content / name)
        entries.append((picture.caption, name))
    return entries


def _copy(source: Path, target: Path) -> None:
    try:
        target.write_bytes(source.read_bytes())
    except FileNotFoundError as error:
        raise MergeError(
            "Some pictures are missing: they were removed with an older visit. Draw them again."
        ) from error


def _write_text(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")


def _zip(content: Path, path: Path) -> Path:
    """Zip the folder; the same content gives the same bytes."""
    with archive(path) as bundle:
        for file in sorted(file for file in content.rglob("*") if file.is_file()):
            bundle.add(f"{content.name}/{file.relative_to(content).as_posix()}", file)
    return path


def unpack(pack: Path, name: str, folder: Path, file: str) -> Path:
    """Write a LoRA of a pack into ``folder`` as a file; ``file`` is what the user calls the pack.

    MergeError if the pack has no such LoRA, or is damaged.
    """
    adapter = read_packed(pack, name, file=file)
    # named as the command unpack does, for the name stands in the header
    path = folder / f"{name if PLAIN_NAME.fullmatch(name) else 'lora'}.safetensors"
    # only the full format holds biases and normalisations
    form = "full" if adapter.shifts else "kohya"
    save_adapter(adapter, path, form, "fp16", adapter_metadata(adapter.metadata))
    return path


def pack_files(
    files: Mapping[str, NamedFile], keep: float, folder: Path, progress: Progress = silent
) -> PackOffer:
    """Pack files of the library, by their hashes, into ``folder``; ``keep`` is the share kept.

    Every LoRA is written from the pack once, so that it is known to come back, and as what.
    MergeError for what cannot be packed, or would not come back whole.
    """
    adapters = list(map(_packable, files.values()))
    names = _distinct([adapter.name for adapter in adapters])
    adapters = [replace(one, name=name) for one, name in zip(adapters, names, strict=True)]
    path = folder / "pack.safetensors"
    packed = pack(adapters, path, formats.DTYPES["fp16"], keep, progress, trade_offs=())
    hashes = [_sha256_unpacked(path, name, folder) for name in names]
    if twins := [name for name, sha in zip(names, hashes, strict=True) if hashes.count(sha) > 1]:
        raise MergeError(f"{' and '.join(twins)} are the same LoRA: delete one of them.")
    rows = zip(files, hashes, names, packed.tally.errors, strict=True)
    before = sum(file.path.stat().st_size for file in files.values())
    return PackOffer(path, packed.bytes, before, tuple(PackedFile(*row) for row in rows))


def _packable(file: NamedFile) -> Adapter:
    """The LoRA of a file; MergeError if a file from a pack could not hold all of it."""
    adapter = formats.read(file.path, name=file.name)
    if adapter.embeddings or adapter.shifts:
        what = "textual inversions" if adapter.embeddings else "biases or normalisations"
        raise MergeError(
            f"{adapter.name} stays a file of its own: it has {what} inside. Untick it."
        )
    return adapter


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number where two are alike."""
    distinct: list[str] = []
    for name in names:
        numbered = (f"{name} ({number})" for number in count(2))
        distinct.append(next(one for one in chain([name], numbered) if one not in distinct))
    return distinct


def _sha256_unpacked(pack: Path, name: str, folder: Path) -> str:
    """SHA-256 of the file that the pack gives back."""
    path = unpack(pack, name, folder, "the pack")
    try:
        return file_sha256(path)
    finally:
        path.unlink()
