"""What a merged file says of those it was made of: authors, licences, words, each by its source."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

from merging.adapter import Adapter
from merging.formats.trigger_words import TAGS, TRAINED, all_triggers, tag_counts

AUTHOR, LICENCE = "modelspec.author", "modelspec.license"
UNSTATED = "not stated"


def attribution(sources: Sequence[Adapter]) -> dict[str, str]:
    """Header fields, in the spelling of modelspec and kohya; none that no source has."""
    fields = {
        AUTHOR: _by_source(sources, AUTHOR),
        LICENCE: _by_source(sources, LICENCE),
        TAGS: _listed({source.name: tag_counts(source.metadata) for source in sources}),
        TRAINED: _listed({source.name: all_triggers(source.metadata) for source in sources}),
    }
    return {field: text for field, text in fields.items() if text}


def _listed(by_source: Mapping[str, Collection[str]]) -> str:
    """As JSON, of those sources that have some; "" for none."""
    kept = {name: own for name, own in by_source.items() if own}
    return json.dumps(kept, ensure_ascii=False) if kept else ""


def _by_source(sources: Sequence[Adapter], field: str) -> str:
    """What all of them say, or what each of them says; "" where none says anything."""
    said = {source.name: " ".join(source.metadata.get(field, "").split()) for source in sources}
    if len(set(said.values())) == 1:
        return next(iter(said.values()))
    return "; ".join(f"{name}: {text or UNSTATED}" for name, text in said.items())
