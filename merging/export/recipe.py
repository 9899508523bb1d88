"""The recipe and header of a merged file, and the merge request from a recipe."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

from merging.adapter import Adapter
from merging.embedding import Embedding
from merging.engine import MergeResult
from merging.errors import MergeError
from merging.export.attribution import attribution
from merging.io.files import RECIPE_KEY
from merging.methods import METHODS
from merging.options import Precision, merge_options, option_values
from merging.request import MergeRequest, Source
from merging.text.syntax import SYNTAX, SYNTAX_KEY, escaped, has_syntax
from merging.version import __version__

# Values of options that older recipes do not have.
_OLD_DEFAULTS = {"teacher": "single", "mode": "delta"}
# Options younger than the first recipes: without them a file has the bytes that it always had.
_LEFT_OUT_AT_DEFAULT = ("refine", "clip_skip")
_PARTS = ("text_encoder", "unet")  # in a recipe only where they differ from the whole


class SourceIdentity(TypedDict):
    """What every LoRA of a recipe has."""

    name: str
    sha256: str
    strength: float
    trigger: str
    prompts: list[str]  # calibration prompts of its own


class SourceEntry(SourceIdentity, total=False):
    """One LoRA of a recipe; what is as usual is left out."""

    text_encoder: float  # times the strength
    unet: float  # times the strength
    words: list[str]  # of the textual inversions in its file
    blocks: dict[str, float]
    origin: str  # owner/repo/file@commit on the Hub


class EmbeddingEntry(TypedDict, total=False):
    """A textual inversion beside the LoRAs."""

    word: str
    name: str
    sha256: str
    origin: str


class Recipe(TypedDict, total=False):
    """A merge as plain data for JSON. Beside these keys it has every option by its name."""

    version: str
    base: str
    base_fingerprint: str
    base_precision: str
    sources: list[SourceEntry]
    embeddings: list[EmbeddingEntry]
    prompt_syntax: str  # only where triggers or prompts have any


def recipe(
    request: MergeRequest, base: str = "", fingerprint: str = "", precision: Precision = "auto"
) -> Recipe:
    """The request as plain data: every option, and each source by name and SHA-256.

    ``base`` is the name, Hub id or folder of the base model; of a folder or file only the name
    is saved, and the ``fingerprint`` of its weights identifies the model. ``precision`` is the base
    model's. Fingerprint and precision are left out for a merge that does not use the base model.
    """
    if not request.based:
        fingerprint, precision = "", "auto"
    name = Path(base).name if Path(base).exists() else base
    embeddings = list(map(_embedding_entry, request.embeddings))
    entries = {
        "version": __version__,
        **({"base": name} if name else {}),
        **({"base_fingerprint": fingerprint} if fingerprint else {}),
        **({"base_precision": precision} if precision != "auto" else {}),
        "sources": [_source_entry(source) for source in request.sources],
        **({"embeddings": embeddings} if embeddings else {}),
        **({SYNTAX_KEY: SYNTAX} if _has_syntax(request) else {}),
        **_saved_options(request),
    }
    return cast(Recipe, entries)


def _has_syntax(request: MergeRequest) -> bool:
    sources = request.sources
    return any(has_syntax(text) for one in sources for text in (one.phrase, *one.prompts))


def _saved_options(request: MergeRequest) -> dict[str, Any]:
    """The values of the options that belong into a recipe."""
    options = merge_options()
    return {
        name: value
        for name, value in option_values(request).items()
        if name not in _LEFT_OUT_AT_DEFAULT or value != options[name].default
    }


def header(
    request: MergeRequest,
    result: MergeResult,
    base: str = "",
    fingerprint: str = "",
    precision: Precision = "auto",
) -> dict[str, str]:
    """Metadata for the adapter file: recipe, triggers, sources, licences; no times."""
    saved = recipe(request, base, fingerprint, precision)
    method = METHODS[request.method]
    names = ", ".join(source.adapter.name for source in request.sources)
    phrases = dict.fromkeys(source.phrase for source in request.sources if source.phrase)
    fields = {
        RECIPE_KEY: json.dumps(saved, ensure_ascii=False, sort_keys=True),
        "modelspec.title": result.adapter.name,
        "modelspec.merged_from": names,
        "modelspec.description": f"{method.title} of {names} ({method.source})",
        "modelspec.trigger_phrase": ", ".join(phrases),
        "ss_training_comment": f"merged by IterIS Studio: {method.title} of {names}",
        "ss_clip_skip": _clip_skip(request),
        **attribution([source.adapter for source in request.sources]),
    }
    return {key: value for key, value in fields.items() if value}


def _clip_skip(request: MergeRequest) -> str:
    """The clip skip to draw with, as text: the merge's, else that of all its LoRAs; "" for none."""
    of_sources = {source.clip_skip for source in request.sources}
    common = of_sources.pop() if len(of_sources) == 1 else 1
    number = request.clip_skip if request.clip_skip > 1 else common
    return f"{number}" if number > 1 else ""


def _source_entry(source: Source) -> SourceEntry:
    parts = {part: getattr(source, part) for part in _PARTS if getattr(source, part) != 1}
    words = [embedding.word for embedding in source.adapter.embeddings]
    entry = {
        "name": source.adapter.name,
        "sha256": source.adapter.sha256,
        "strength": source.strength,
        "trigger": source.phrase,
        "prompts": list(source.prompts),
        **parts,
        **({"words": words} if words else {}),
        **({} if source.blocks is None else {"blocks": dict(source.blocks)}),
        **({"origin": source.origin} if source.origin else {}),
    }
    return cast(SourceEntry, entry)


def _embedding_entry(embedding: Embedding) -> EmbeddingEntry:
    entry: EmbeddingEntry = {
        "word": embedding.word,
        "name": embedding.source,
        "sha256": embedding.sha256,
    }
    return {**entry, "origin": embedding.origin} if embedding.origin else entry


def replay(
    saved: Mapping[str, Any], adapters: Sequence[Adapter], embeddings: Sequence[Embedding] = ()
) -> MergeRequest:
    """The request that a recipe describes, for the same files in any order (by SHA-256).

    Raises MergeError if a file of the recipe is missing, or the recipe is damaged.
    """
    by_hash = {adapter.sha256: adapter for adapter in adapters}
    try:
        literal = saved.get(SYNTAX_KEY) != SYNTAX
        sources = tuple(_replay_source(entry, by_hash, literal) for entry in saved["sources"])
        used = tuple(_replay_embedding(entry, embeddings) for entry in saved.get("embeddings", []))
        options = _OLD_DEFAULTS | {key: saved[key] for key in merge_options() if key in saved}
        return MergeRequest(sources=sources, embeddings=used, **options)
    except (AttributeError, KeyError, TypeError) as error:
        raise MergeError(
            f"The recipe is damaged ({error}); take it from inspect --json."
        ) from error


def _replay_source(entry: dict[str, Any], by_hash: dict[str, Adapter], literal: bool) -> Source:
    """A LoRA of the recipe; brackets in its texts are escaped where they were read ``literal``."""
    if entry["sha256"] not in by_hash:
        raise _missing(entry)
    adapter = by_hash[entry["sha256"]]
    # with the names in the recipe, of which the merge's own name is made
    pairs = zip(adapter.embeddings, entry.get("words", []), strict=False)
    renamed = tuple(
        dataclasses.replace(embedding, word=word, source=entry["name"]) for embedding, word in pairs
    )
    adapter = dataclasses.replace(adapter, name=entry["name"], embeddings=renamed)
    more = {key: entry[key] for key in (*_PARTS, "blocks", "origin") if key in entry}
    texts = (entry["trigger"], *entry["prompts"])
    trigger, *prompts = map(escaped, texts) if literal else texts
    return Source(adapter, entry["strength"], trigger, tuple(prompts), **more)


def _replay_embedding(entry: dict[str, Any], embeddings: Sequence[Embedding]) -> Embedding:
    """A textual inversion of the recipe, with its word and name from there."""
    same_file = [item for item in embeddings if item.sha256 == entry["sha256"]]
    same_word = [item for item in same_file if item.word == entry["word"]] or same_file
    if not same_word:
        raise _missing(entry)
    names = {"source": entry["name"], "origin": entry.get("origin", "")}
    return dataclasses.replace(same_word[0], word=entry["word"], **names)


def _missing(entry: dict[str, Any]) -> MergeError:
    place = f"; it came from {entry['origin']}" if "origin" in entry else ""
    return MergeError(
        f"The recipe needs {entry['name']} (SHA-256 {entry['sha256'][:12]}…), which is not among "
        f"the files given{place}."
    )
