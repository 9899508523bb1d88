"""What the output file tells of its origin, and how a merge is redone from it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from merging import __version__
from merging.adapter import Adapter
from merging.errors import MergeError
from merging.merge import MergeRequest, MergeResult, Source
from merging.methods import METHODS

RECIPE_KEY = "iteris.recipe"  # the header field of our files
_OPTIONS = (
    "method",
    "rank",
    "targets",
    "samples",
    "rows",
    "fallback",
    "ridge",
    "cross_ridge",
    "mode",
    "weighting",
    "padding",
    "tokens",
    "teacher",
    "preserve",
    "rounds",
    "seed",
)
_PARTS = ("text_encoder", "unet")  # in a recipe only where they differ from the whole


def recipe(request: MergeRequest, base: str = "") -> dict[str, Any]:
    """The request as plain data: every option, and each source by name and SHA-256.

    ``base`` is what the base model was called; of a folder the name alone is kept.
    """
    return {
        "version": __version__,
        **({"base": Path(base).name if Path(base).is_dir() else base} if base else {}),
        "sources": [_source(source) for source in request.sources],
        **{option: getattr(request, option) for option in _OPTIONS},
    }


def header(request: MergeRequest, result: MergeResult, base: str = "") -> dict[str, str]:
    """Metadata for the adapter file: recipe, triggers, sources; strings only, no clock."""
    method = METHODS[request.method]
    names = ", ".join(source.adapter.name for source in request.sources)
    phrases = [source.phrase for source in request.sources if source.phrase]
    fields = {
        RECIPE_KEY: json.dumps(recipe(request, base), ensure_ascii=False, sort_keys=True),
        "modelspec.title": result.adapter.name,
        "modelspec.merged_from": names,
        "modelspec.description": f"{method.title} of {names} ({method.source})",
        "modelspec.trigger_phrase": ", ".join(phrases),
        "ss_training_comment": f"merged by IterIS Studio: {method.title} of {names}",
    }
    return {key: value for key, value in fields.items() if value}


def _source(source: Source) -> dict[str, Any]:
    parts = {part: getattr(source, part) for part in _PARTS if getattr(source, part) != 1}
    return {
        "name": source.adapter.name,
        "sha256": source.adapter.sha256,
        "strength": source.strength,
        "trigger": source.phrase,
        "prompts": list(source.prompts),
        **parts,
        **({} if source.blocks is None else {"blocks": dict(source.blocks)}),
        **({"origin": source.origin} if source.origin else {}),
    }


def read_recipe(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """The recipe in the header of a file that we wrote; None in any other."""
    try:
        found = json.loads(metadata[RECIPE_KEY])
    except (KeyError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def replay(saved: dict[str, Any], adapters: list[Adapter]) -> MergeRequest:
    """The request that a recipe describes, for the same files in any order (by SHA-256).

    Raises MergeError if a file of the recipe is not among the adapters, or the recipe is damaged.
    """
    by_hash = {adapter.sha256: adapter for adapter in adapters}
    try:
        sources = tuple(_replayed(entry, by_hash) for entry in saved["sources"])
        options = {key: saved[key] for key in _OPTIONS if key in saved}
        return MergeRequest(sources=sources, **options)
    except (AttributeError, KeyError, TypeError) as error:
        raise MergeError(
            f"The recipe is damaged ({error}); take it from inspect --json."
        ) from error


def _replayed(entry: dict[str, Any], by_hash: dict[str, Adapter]) -> Source:
    if entry["sha256"] not in by_hash:
        place = f"; it came from {entry['origin']}" if "origin" in entry else ""
        raise MergeError(
            f"The recipe needs {entry['name']} (SHA-256 {entry['sha256'][:12]}…), which is not "
            f"among the files given{place}."
        )
    # under the name that it had, which the merge's own is made of
    adapter = dataclasses.replace(by_hash[entry["sha256"]], name=entry["name"])
    own = {key: entry[key] for key in (*_PARTS, "blocks", "origin") if key in entry}
    return Source(adapter, entry["strength"], entry["trigger"], tuple(entry["prompts"]), **own)
