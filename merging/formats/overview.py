"""What a file is, from its header: no weight is read, so that a large file costs no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from merging.formats import detect, embeddings
from merging.formats import trigger_words as trigger
from merging.formats import unused_keys as leftover
from merging.formats import vector_deltas as shifts
from merging.formats.families import table as changes
from merging.formats.families.layer_tensors import not_finite
from merging.formats.header import Header
from merging.formats.key_names import peft
from merging.formats.layer_tables import LayerTable, printable, title
from merging.formats.match import Fit, family, fitted
from merging.formats.tensors import Body, opened
from merging.formats.unused_keys import Left

HASHES = ("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256")  # as trainers write them


@dataclass(frozen=True)
class Overview:
    """One file: what it is for, what is in it, and what of that cannot be used."""

    name: str
    file_bytes: int
    family: str
    base: str  # name of the LayerTable it fits
    needs_base: bool  # whether some change depends on the base model's own weights
    matched: Mapping[str, int]  # part → layers that the file changes
    known: Mapping[str, int]  # part → layers that the base has
    unmatched: tuple[str, ...]  # names of modules that the base does not have
    left: Left  # keys that cannot be used, by kind
    words: Mapping[str, int]  # each textual inversion inside → its vectors
    shifts: Mapping[str, int]  # "bias", "normalisation" → vectors that it changes
    ranks: Counter[int]  # of the layers that have one in their header
    alphas: Counter[float]
    dtypes: Counter[str]
    trigger: str  # phrase that calls the concept, "" where the file names none
    class_word: str  # what the concept is a kind of, "" where the file does not say it
    trained_words: Mapping[str, tuple[str, ...]]  # header field → words, the most frequent first
    hashes: Mapping[str, str]
    metadata: Mapping[str, str]
    warnings: tuple[str, ...]


def overview(path: Path, table: LayerTable | None = None, name: str | None = None) -> Overview:
    """Look at a file's header, with the arguments and the refusals of `read`."""
    path = Path(path)
    file = printable(Path(name or path).name)
    with opened(path, file) as body:
        header = body.header
        detect.refuse_strangers(header, file)
        fit = fitted(header, table, file)
        settings = peft.config(header, path, file)
        stored = _alphas(body, fit)
    ranks = _ranks(header, fit)
    alphas = [
        stored.get(layer) or _unwritten(layer, rank, fit, settings, file)
        for layer, rank in ranks.items()
    ]
    inversions = embeddings.usable(header, fit.left.get(embeddings.KIND, []), fit.table)
    return Overview(
        name=title(file),
        file_bytes=body.size,
        family=family(fit),
        base=fit.table.name,
        needs_base=any(changes.needs_base(keys) for keys in fit.layers.values()),
        matched=_parts(fit.layers),
        known=_parts(fit.table.shapes),
        unmatched=tuple(dict.fromkeys(leftover.module(key) for key in fit.unknown)),
        left=_left(fit.left, inversions),
        words={
            word or title(file): embeddings.vectors(header.tensors[key])
            for word, key in inversions.items()
        },
        shifts=shifts.counted(fit.shifts),
        ranks=Counter(ranks.values()),
        alphas=Counter(alphas),
        dtypes=Counter(_weights(header, fit)),
        trigger=trigger.trigger(header.metadata)
        or " ".join(word or title(file) for word in inversions),
        class_word=trigger.class_word(header.metadata),
        trained_words=trigger.trained_words(header.metadata),
        hashes={key: header.metadata[key] for key in HASHES if header.metadata.get(key)},
        metadata=header.metadata,
        warnings=tuple(warnings(header, fit, title(file))),
    )


def warnings(header: Header, fit: Fit, name: str) -> list[str]:
    """Everything about a readable file that its user should know, in sentences."""
    found = leftover.sentences(fit.left, fit.table.title) + shifts.sentences(fit.shifts)
    found += embeddings.sentences(header, fit.left.get(embeddings.KIND, []), fit.table)
    bare = [
        keys
        for keys in fit.layers.values()
        if keys.get("down", "").endswith("lora_down.weight") and "alpha" not in keys
    ]
    if bare:
        found.append(f"{len(bare)} layers name no alpha; it is taken to be their rank.")
    return [*found, *detect.doubts(header, name)]


def _parts(layers: Iterable[str]) -> Mapping[str, int]:
    counts = Counter(layer.partition(".")[0] for layer in layers)
    return {part: counts[part] for part in ("text_encoder", "unet")}


def _left(left: Left, inversions: Mapping[str, str]) -> Left:
    """What cannot be used: without the textual inversions, and what stands beside them."""
    lost = [
        key
        for word, keys in embeddings.words(left.get(embeddings.KIND, [])).items()
        for key in keys
        if word not in inversions
    ]
    others = {kind: keys for kind, keys in left.items() if kind != embeddings.KIND}
    return others | ({embeddings.KIND: lost} if lost else {})


def _ranks(header: Header, fit: Fit) -> dict[str, int]:
    """What alpha is divided by, for every layer that has such a number."""
    found = {}
    for layer, keys in fit.layers.items():
        shapes = {role: header.tensors[key].shape for role, key in keys.items()}
        each = changes.family_of(keys)
        if each and (rank := each.rank(shapes, fit.table.shapes[layer])):
            found[layer] = rank
    return found


def _unwritten(layer: str, rank: int, fit: Fit, settings: Mapping[str, object], file: str) -> float:
    """alpha of a layer that has no tensor for it: PEFT's, or the rank."""
    if fit.layers[layer].get("down", "").endswith(".lora_A.weight"):
        return peft.alpha_of(layer, rank, settings, file)
    return float(rank)


def _weights(header: Header, fit: Fit) -> Iterable[str]:
    """The types of all tensors but the single numbers beside them."""
    for keys in fit.layers.values():
        for role, key in keys.items():
            if role not in changes.NUMBERS:
                yield header.tensors[key].dtype


def _alphas(body: Body, fit: Fit) -> dict[str, float]:
    """Each layer's alpha, a few bytes each, from their places in the file; MergeError as `read`."""
    found = {
        layer: body.number(keys["alpha"]) for layer, keys in fit.layers.items() if "alpha" in keys
    }
    for layer, alpha in found.items():
        if not isfinite(alpha):
            raise not_finite(body.file, layer)
    return found
