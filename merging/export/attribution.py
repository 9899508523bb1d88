"""Header fields of a merged file about its sources: authors, licences, tags, trained words."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

from merging.adapter import Adapter
from merging.formats.trigger_words import TAGS, TRAINED, all_triggers, tag_counts

AUTHOR, LICENCE = "modelspec.author", "modelspec.license"
UNSTATED = "not stated"


def attribution(sources: Sequence[Adapter]) -> dict[str, str]:
    """Header fields with the names of modelspec and kohya, as far as a source has them."""
    fields = {
        AUTHOR: _by_source(sources, AUTHOR),
        LICENCE: _by_source(sources, LICENCE),
        TAGS: _json_by_source({one.name: tag_counts(one.metadata) for one in sources}),
        TRAINED: _json_by_source(
            {source.name: all_triggers(source.metadata) for source in sources}
        ),
    }
    return {field: text for field, text in fields.items() if text}


def _json_by_source(by_source: Mapping[str, Collection[str]]) -> str:
    """JSON of the sources that have values; "" if none has."""
    nonempty = {name: values for name, values in by_source.items() if values}
    return json.dumps(nonempty, ensure_ascii=False) if nonempty else ""


def _by_source(sources: Sequence[Adapter], field: str) -> str:
    """The text that all sources share, else the text of each by name; "" if none has any."""
    texts = {source.name: " ".join(source.metadata.get(field, "").split()) for source in sources}
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"{name}: {text or UNSTATED}" for name, text in texts.items())
