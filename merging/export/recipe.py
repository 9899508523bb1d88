"""What the output file tells of its origin, and how a merge is redone from it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from merging.adapter import Adapter
from merging.embedding import Embedding
from merging.engine import MergeResult
from merging.errors import MergeError
from merging.export.attribution import attribution
from merging.io.files import RECIPE_KEY
from merging.methods import METHODS
from merging.options import Precision, merge_options, option_values
from merging.request import MergeRequest, Source
from merging.version import __version__

# What a recipe means that is older than these options.
_BEFORE = {"teacher": "single", "mode": "delta"}
_PARTS = ("text_encoder", "unet")  # in a recipe only where they differ from the whole


def recipe(
    request: MergeRequest, base: str = "", fingerprint: str = "", precision: Precision = "auto"
) -> dict[str, Any]:
    """The request as plain data: every option, and each source by name and SHA-256.

    ``base`` is what the base model was called; of a folder the name alone is kept, and the
    ``fingerprint`` of its weights tells whether another folder holds the same. ``precision`` is the
    base model's, where one was asked for. Neither is said of a merge in which the base had no part:
    it is the same with any, and the page makes it without loading one.
    """
    if not request.based:
        fingerprint, precision = "", "auto"
    name = Path(base).name if Path(base).is_dir() else base
    words = list(map(_word, request.embeddings))
    return {
        "version": __version__,
        **({"base": name} if name else {}),
        **({"base_fingerprint": fingerprint} if fingerprint else {}),
        **({"base_precision": precision} if precision != "auto" else {}),
        "sources": [_source(source) for source in request.sources],
        **({"embeddings": words} if words else {}),
        **option_values(request),
    }


def header(
    request: MergeRequest,
    result: MergeResult,
    base: str = "",
    fingerprint: str = "",
    precision: Precision = "auto",
) -> dict[str, str]:
    """Metadata for the adapter file: recipe, triggers, sources, terms; strings only, no clock."""
    saved = recipe(request, base, fingerprint, precision)
    method = METHODS[request.method]
    names = ", ".join(source.adapter.name for source in request.sources)
    phrases = [source.phrase for source in request.sources if source.phrase]
    fields = {
        RECIPE_KEY: json.dumps(saved, ensure_ascii=False, sort_keys=True),
        "modelspec.title": result.adapter.name,
        "modelspec.merged_from": names,
        "modelspec.description": f"{method.title} of {names} ({method.source})",
        "modelspec.trigger_phrase": ", ".join(phrases),
        "ss_training_comment": f"merged by IterIS Studio: {method.title} of {names}",
        **attribution([source.adapter for source in request.sources]),
    }
    return {key: value for key, value in fields.items() if value}


def _source(source: Source) -> dict[str, Any]:
    parts = {part: getattr(source, part) for part in _PARTS if getattr(source, part) != 1}
    words = [each.word for each in source.adapter.embeddings]
    return {
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


def _word(word: Embedding) -> dict[str, Any]:
    return {
        "word": word.word,
        "name": word.source,
        "sha256": word.sha256,
        **({"origin": word.origin} if word.origin else {}),
    }


def replay(
    saved: dict[str, Any], adapters: Sequence[Adapter], embeddings: Sequence[Embedding] = ()
) -> MergeRequest:
    """The request that a recipe describes, for the same files in any order (by SHA-256).

    Raises MergeError if a file of the recipe is not among those given, or the recipe is damaged.
    """
    by_hash = {adapter.sha256: adapter for adapter in adapters}
    try:
        sources = tuple(_replayed(entry, by_hash) for entry in saved["sources"])
        words = tuple(_reworded(entry, embeddings) for entry in saved.get("embeddings", []))
        options = _BEFORE | {key: saved[key] for key in merge_options() if key in saved}
        return MergeRequest(sources=sources, embeddings=words, **options)
    except (AttributeError, KeyError, TypeError) as error:
        raise MergeError(
            f"The recipe is damaged ({error}); take it from inspect --json."
        ) from error


def _replayed(entry: dict[str, Any], by_hash: dict[str, Adapter]) -> Source:
    if entry["sha256"] not in by_hash:
        raise _missing(entry)
    adapter = by_hash[entry["sha256"]]
    # under the names that it had, which the merge's own is made of; a nameless word has the file's
    words = zip(adapter.embeddings, entry.get("words", []), strict=False)
    own = tuple(dataclasses.replace(each, word=word, source=entry["name"]) for each, word in words)
    adapter = dataclasses.replace(adapter, name=entry["name"], embeddings=own)
    more = {key: entry[key] for key in (*_PARTS, "blocks", "origin") if key in entry}
    return Source(adapter, entry["strength"], entry["trigger"], tuple(entry["prompts"]), **more)


def _reworded(entry: dict[str, Any], embeddings: Sequence[Embedding]) -> Embedding:
    """A textual inversion of the recipe, under the word and the name that it had."""
    found = [each for each in embeddings if each.sha256 == entry["sha256"]]
    same = [each for each in found if each.word == entry["word"]] or found
    if not same:
        raise _missing(entry)
    own = {"source": entry["name"], "origin": entry.get("origin", "")}
    return dataclasses.replace(same[0], word=entry["word"], **own)


def _missing(entry: dict[str, Any]) -> MergeError:
    place = f"; it came from {entry['origin']}" if "origin" in entry else ""
    return MergeError(
        f"The recipe needs {entry['name']} (SHA-256 {entry['sha256'][:12]}…), which is not among "
        f"the files given{place}."
    )
