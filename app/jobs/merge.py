"""What runs in the worker thread: a merge, and the base models that all jobs share."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import torch

from app.jobs.queue import Step
from app.schemas.card import base_title, misfit, span
from app.schemas.merge import Merged, MergeOrder, Pick, own_prompts, parsed_rank
from merging import formats
from merging.diffusion.base import Base, load_base
from merging.diffusion.calibrate import activations
from merging.diffusion.loader_check import checked
from merging.embedding import Embedding
from merging.engine import MergeResult, merge
from merging.errors import MergeError
from merging.export.recipe import header, recipe
from merging.export.sidecar import sentences, write_words
from merging.formats import LayerTable
from merging.io.file_names import file_stem
from merging.methods import METHODS
from merging.options import Fallback, Mode, Padding, Precision, Targets, Teacher, Tokens, Weighting
from merging.report import LayerReport
from merging.request import MergeRequest, Source
from merging.runtime.progress import Progress, Stop, check
from merging.scoring.clip import Clip, clip_of, load_clip

KEPT_BASES = 2  # loaded at a time: the embedded one is small, and nobody needs three
Emit = Callable[[object], None]
Weights = Callable[[str], torch.Tensor | None]  # of the base, for files that depend on them


class Bases:
    """Base models by name and precision, loaded when first wanted. Jobs alone use it, in turn."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._loaded: dict[tuple[str, str], Base] = {}
        self._clips: dict[str, Clip] = {}

    def get(self, name: str, precision: str, progress: Progress) -> Base:
        """The base, loaded; MergeError when it cannot be had."""
        if (name, precision) not in self._loaded:
            first = "" if name == "mini" else "; a first download takes minutes"
            progress(0.0, f"Loading {base_title(name)}{first}")
            loaded = load_base(name, self._device, cast(Precision, precision))
            while len(self._loaded) >= KEPT_BASES:
                self._loaded.pop(next(iter(self._loaded)))
            self._loaded[name, precision] = loaded
        return self._loaded[name, precision]

    def clip(self, base: Base, progress: Progress) -> Clip:
        """The CLIP that judges this base's pictures; MergeError when it cannot be had."""
        name = clip_of(base.name)
        if name not in self._clips:
            progress(0.0, "Loading CLIP for the scores")
            self._clips[name] = load_clip(name)
        return self._clips[name]


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


def request_of(order: MergeOrder, weights: Weights) -> MergeRequest:
    """The order as the library has it, its files read; MergeError for what cannot be merged."""
    sources = _sources(order, weights)
    return MergeRequest(
        sources=sources,
        embeddings=words_of(order.words, formats.table(sources[0].adapter.base)),
        method=order.method,
        rank=parsed_rank(order.rank),
        targets=cast(Targets, order.targets),
        samples=order.samples,
        rows=order.rows,
        fallback=cast(Fallback, order.fallback),
        ridge=order.ridge,
        cross_ridge=order.cross_ridge,
        mode=cast(Mode, order.mode),
        weighting=cast(Weighting, order.weighting),
        padding=cast(Padding, order.padding),
        tokens=cast(Tokens, order.tokens),
        teacher=cast(Teacher, order.teacher),
        composed_weight=order.composed_weight,
        preserve=order.preserve,
        rounds=order.rounds,
        seed=order.seed,
    )


class Telling:
    """A merge's progress and its solved layers, both as Steps."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._step = Step(0.0, "Starting")

    def progress(self, share: float, text: str) -> None:
        """The library's words, as a sentence's start."""
        self._step = Step(share, text[:1].upper() + text[1:])
        self._emit(self._step)

    def watch(self, row: LayerReport) -> None:
        """The same Step, with the layer that is done."""
        self._emit(replace(self._step, solved=row))


def stepping(emit: Emit) -> Progress:
    """The library's progress as Steps for the executor; its text becomes a sentence's start."""
    return Telling(emit).progress


def _sources(order: MergeOrder, weights: Weights) -> tuple[Source, ...]:
    """The LoRAs of the request; a visitor's own prompts go to the concepts that they name."""
    sources = [source_of(pick, order.base, weights) for pick in order.picks]
    typed = own_prompts([source.phrase for source in sources], order.prompts)
    return tuple(
        replace(source, trigger=source.phrase, prompts=pick.prompts or lines)
        for pick, source, lines in zip(order.picks, sources, typed, strict=True)
    )


def source_of(pick: Pick, base: str, weights: Weights) -> Source:
    """The pick, read and weighed; MergeError if it was made for another base than the chosen."""
    own = pick.weighed
    adapter = formats.read(own.path, name=f"{pick.name}.safetensors", weights=weights)
    wrong = misfit(adapter.name, adapter.base, base)
    if wrong:
        raise MergeError(wrong)
    return replace(own.of(adapter, pick.origin), trigger=pick.trigger)


def words_of(words: Sequence[Pick], table: LayerTable) -> tuple[Embedding, ...]:
    """Textual inversions by the words that the visitor calls them; MergeError for other bases'."""
    return tuple(
        replace(each, origin=pick.origin)
        for pick in words
        for each in formats.read_embeddings(
            pick.path, table, f"{pick.name}.safetensors", pick.trigger
        )
    )


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
