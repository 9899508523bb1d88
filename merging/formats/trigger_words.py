"""The phrase that calls a LoRA's concept, as far as its file says so."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

TRAINED = "trained_words"  # several words, as a list; of a merge, as an object by source
# Fields with words: modelspec's, Civitai's (in the header, or as its tools copy them) and kohya's.
PHRASES = (
    *("modelspec.trigger_phrase", "instance_prompt", "ss_instance_prompt"),
    *(TRAINED, "trainedWords", "activation text"),
)
WORDS = (*PHRASES, "modelspec.tags", "ss_tags")
MOST_WORDS = 50  # of a field, and of a training set's captions, which can have thousands
TAGS = "ss_tag_frequency"  # kohya: {"10_sks cat": {"sks cat": 20, …}, …}, JSON


def trigger(metadata: Mapping[str, str]) -> str:
    """The trigger phrase, "" where none is named; tags count only if all captions share one."""
    named = (_phrase(metadata.get(field, "")) for field in PHRASES)
    return next((phrase for phrase in named if phrase), "") or _only_tag(metadata.get(TAGS, ""))


def called(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """All words that are said to call the concept, without those that only describe it."""
    words = trained_words({field: metadata.get(field, "") for field in PHRASES}).values()
    return tuple(dict.fromkeys(word for own in words for word in own))


def trained_words(metadata: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Words that the file was trained with, by header field; tags with the most frequent first."""
    found = {field: _split(metadata.get(field, ""))[:MOST_WORDS] for field in WORDS}
    found[TAGS] = tuple(tag_counts(metadata))
    return {field: words for field, words in found.items() if words}


def tag_counts(metadata: Mapping[str, str]) -> dict[str, int]:
    """Tags of the training set's captions and how often each stands there, most frequent first."""
    counts: Counter[str] = Counter()
    for folder in _folders(metadata.get(TAGS, "")):
        counts.update({tag.strip(): count for tag, count in folder.items()})
    return {tag: count for tag, count in counts.most_common(MOST_WORDS) if tag}


def class_word(metadata: Mapping[str, str]) -> str:
    """The ordinary word that the concept is a kind of, "" where the file does not say it.

    kohya's folders are called "10_sks cat", those of its regularisation pictures "1_cat".
    """
    regular = _folder_names(metadata, "ss_reg_dataset_dirs")
    trained = _folder_names(metadata, "ss_dataset_dirs", TAGS)
    classes = [*regular, *(name.split()[-1] for name in trained if len(name.split()) > 1)]
    return Counter(classes).most_common(1)[0][0] if classes else ""


def _folder_names(metadata: Mapping[str, str], *fields: str) -> list[str]:
    """The names of a training set's folders, without how often each was repeated."""
    names: list[str] = []
    for field in fields:
        try:
            names += json.loads(metadata.get(field, "") or "{}").keys()
        except (ValueError, AttributeError, RecursionError):
            continue
    return [name.partition("_")[2].strip() for name in names if name.partition("_")[2].strip()]


def _phrase(text: str) -> str:
    """What a field names as one phrase: all of it, or the first word of a JSON list."""
    if _listed(text) is None:
        return text.strip()
    return next(iter(_split(text)), "")


def _split(text: str) -> tuple[str, ...]:
    """One phrase, or several as a JSON list or between commas."""
    listed = _listed(text)
    words = text.split(",") if listed is None else listed
    return tuple(filter(None, dict.fromkeys(str(word).strip() for word in words)))


def _listed(text: str) -> list[Any] | None:
    """The words of a JSON list, or of an object of lists; None for any other text."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict):
        return [word for own in found.values() if isinstance(own, list) for word in own]
    return found if isinstance(found, list) else None


def _folders(text: str) -> list[dict[str, int]]:
    """kohya's tag statistics, folder by folder; those of some other tool are passed over."""
    try:
        folders = json.loads(text or "{}").values()
    except (ValueError, AttributeError, RecursionError):
        return []
    return [
        folder
        for folder in folders
        if isinstance(folder, dict) and all(isinstance(count, int) for count in folder.values())
    ]


def _only_tag(text: str) -> str:
    """The one caption that all pictures of a kohya training set have, "" if there are several."""
    try:
        folders = json.loads(text or "{}").values()
        tags = {tag.strip() for folder in folders for tag in folder}
    except (ValueError, AttributeError, TypeError, RecursionError):
        return ""  # statistics of some other tool; they are no part of the LoRA
    return tags.pop() if len(tags) == 1 else ""
