"""What a file is, from its header alone: no weights are read, so large files are as fast."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from merging.formats import detect, embeddings, trigger_words, unused_keys, vector_deltas
from merging.formats.families import table as families
from merging.formats.families.layer_tensors import alpha_or_rank, not_finite_error
from merging.formats.header import Header
from merging.formats.layer_tables import LayerTable, Role, adapter_title, printable
from merging.formats.match import KeyMatch, family_text, losses, match_file
from merging.formats.peft_settings import Settings, peft_settings
from merging.formats.tensors import Body, opened
from merging.formats.unused_keys import UnusedKeys

HAVE_ALPHA = {"down", "hada_w1_b", "lokr_w1_b", "lokr_w2_b", "b2.weight"}  # roles
DIFFUSERS_DOWN = re.compile(
    r"(\.lora_A|\.lora\.down|\.lora_linear_layer\.down|_lora\.down)\.weight$"
)
HASHES = ("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256")  # as trainers write them


@dataclass(frozen=True)
class Overview:
    """A file: its base model, its contents, and what of them cannot be used."""

    name: str
    file_bytes: int
    family: str
    base: str  # name of the LayerTable it fits
    needs_base: bool  # whether a change depends on the base model's weights
    matched: Mapping[str, int]  # "unet" and "text_encoder" → layers that the file changes
    known: Mapping[str, int]  # "unet" and "text_encoder" → layers of the base
    unmatched: tuple[str, ...]  # names of modules that the base does not have
    unused: UnusedKeys  # keys that cannot be used, by kind
    embeddings: Mapping[str, int]  # word of a textual inversion in the file → its vectors
    shifts: Mapping[str, int]  # "bias", "normalisation" → vectors that it changes
    ranks: Counter[int]  # of the layers that have one in their header
    alphas: Counter[float]
    dtypes: Counter[str]
    trigger: str  # trigger phrase, "" if the file has none
    class_word: str  # class of the concept, such as "cat"; "" if unknown
    trained_words: Mapping[str, tuple[str, ...]]  # header field → tags, the most frequent first
    hashes: Mapping[str, str]
    metadata: Mapping[str, str]
    warnings: tuple[str, ...]
    refusal: str  # why `read` refuses the file without ``leave_out``, "" if it does not


def overview(path: Path, table: LayerTable | None = None, name: str | None = None) -> Overview:
    """Read a file's header, with the arguments and errors of `read`; lost changes are told."""
    path = Path(path)
    file = printable(Path(name or path).name)
    with opened(path, file) as body:
        header = body.header
        detect.refuse_other_files(header, file)
        match = match_file(body, table)
        settings = peft_settings(header, path, file)
        stored = _read_alphas(body, match)
    ranks = _ranks(header, match)
    alphas = [
        alpha_or_rank(stored.get(layer) or settings.alpha(layer, rank), rank)
        for layer, rank in ranks.items()
    ]
    refusal = unused_keys.refusal(file, losses(match, header))
    inversions = embeddings.usable_words(header, match.unused.get(embeddings.KIND, []), match.table)
    return Overview(
        name=adapter_title(file),
        file_bytes=body.size,
        family=family_text(match),
        base=match.table.name,
        needs_base=match.needs_base,
        matched=_count_by_part(match.layers),
        known=_count_by_part(match.table.shapes),
        unmatched=tuple(dict.fromkeys(unused_keys.module(key) for key in match.unknown)),
        unused=_unusable_keys(match.unused, inversions),
        embeddings={
            word or adapter_title(file): embeddings.vector_count(header.tensors[key])
            for word, key in inversions.items()
        },
        shifts=vector_deltas.count_by_kind(match.shifts),
        ranks=Counter(ranks.values()),
        alphas=Counter(alphas),
        dtypes=Counter(_weight_dtypes(header, match)),
        trigger=trigger_words.trigger(header.metadata)
        or " ".join(word or adapter_title(file) for word in inversions),
        class_word=trigger_words.class_word(header.metadata),
        trained_words=trigger_words.trained_words(header.metadata),
        hashes={key: header.metadata[key] for key in HASHES if header.metadata.get(key)},
        metadata=header.metadata,
        warnings=tuple(
            filter(None, [refusal, *warnings(header, match, settings, adapter_title(file))])
        ),
        refusal=refusal,
    )


def warnings(header: Header, match: KeyMatch, settings: Settings, name: str) -> list[str]:
    """Sentences for the user about a file that can be read."""
    sentences = unused_keys.notes(match.unused, match.table.title)
    sentences += vector_deltas.notes(match.shifts)
    sentences += embeddings.notes(header, match.unused.get(embeddings.KIND, []), match.table)
    if count := sum(_lacks_alpha(layer, keys, settings) for layer, keys in match.layers.items()):
        sentences.append(f"{count} layers have no alpha; their rank is used in its place.")
    return [*sentences, *detect.doubts(header, name)]


def _lacks_alpha(layer: str, keys: Mapping[Role, str], settings: Settings) -> bool:
    """Whether a layer of a family with alpha has none, though its program writes one.

    diffusers writes none: alpha is the rank.
    """
    if "alpha" in keys or settings.alpha(layer, 1) is not None:
        return False
    return bool(keys.keys() & HAVE_ALPHA) and not DIFFUSERS_DOWN.search(keys.get("down", ""))


def _count_by_part(layers: Iterable[str]) -> Mapping[str, int]:
    counts = Counter(layer.partition(".")[0] for layer in layers)
    return {part: counts[part] for part in ("text_encoder", "unet")}


def _unusable_keys(unused: UnusedKeys, inversions: Mapping[str, str]) -> UnusedKeys:
    """Keys that cannot be used: all but those of the textual inversions that are read."""
    wrong_width = [
        key
        for word, keys in embeddings.keys_by_word(unused.get(embeddings.KIND, [])).items()
        for key in keys
        if word not in inversions
    ]
    others = {kind: keys for kind, keys in unused.items() if kind != embeddings.KIND}
    return others | ({embeddings.KIND: wrong_width} if wrong_width else {})


def _ranks(header: Header, match: KeyMatch) -> dict[str, int]:
    """Layer → the rank by which alpha is divided, for families that have one."""
    ranks = {}
    for layer, keys in match.layers.items():
        shapes = {role: header.tensors[key].shape for role, key in keys.items()}
        family = families.family_of(keys)
        if family and (rank := family.rank(shapes, match.table.shapes[layer])):
            ranks[layer] = rank
    return ranks


def _weight_dtypes(header: Header, match: KeyMatch) -> Iterable[str]:
    """The dtypes of all tensors but alpha and other single numbers."""
    for keys in match.layers.values():
        for role, key in keys.items():
            if role not in families.NUMBERS:
                yield header.tensors[key].dtype


def _read_alphas(body: Body, match: KeyMatch) -> dict[str, float]:
    """Layer → alpha, read from the file without its other tensors; MergeError as `read`."""
    alphas = {
        layer: body.number(keys["alpha"]) for layer, keys in match.layers.items() if "alpha" in keys
    }
    for layer, alpha in alphas.items():
        if not isfinite(alpha):
            raise not_finite_error(body.file, layer)
    return alphas
