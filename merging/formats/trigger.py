"""The phrase that calls a LoRA's concept, as far as its file says so."""

from __future__ import annotations

import json
from collections.abc import Mapping

PHRASES = ("modelspec.trigger_phrase", "instance_prompt", "ss_instance_prompt", "trained_words")
TAGS = "ss_tag_frequency"  # kohya: {"10_sks cat": {"sks cat": 20, …}, …}, JSON


def trigger(metadata: Mapping[str, str]) -> str:
    """The trigger phrase, "" where none is named; tags count only if all captions share one."""
    named = (metadata.get(field, "").strip() for field in PHRASES)
    return next((phrase for phrase in named if phrase), "") or _only_tag(metadata.get(TAGS, ""))


def _only_tag(text: str) -> str:
    """The one caption that all pictures of a kohya training set have, "" if there are several."""
    try:
        folders = json.loads(text or "{}").values()
        tags = {tag.strip() for folder in folders for tag in folder}
    except (ValueError, AttributeError, TypeError, RecursionError):
        return ""  # statistics of some other tool; they are no part of the LoRA
    return tags.pop() if len(tags) == 1 else ""
