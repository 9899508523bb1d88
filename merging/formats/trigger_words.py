"""The trigger words of a LoRA, from the fields of its header."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from merging.text.syntax import escaped

TRAINED = "trained_words"  # a list; in files of merges an object, by source
# Header fields with trigger words: modelspec's, Civitai's and its tools', and kohya's.
PHRASES = (
    *("modelspec.trigger_phrase", "instance_prompt", "ss_instance_prompt"),
    *(TRAINED, "trainedWords", "activation text"),
)
CAPTIONS = ("instance_prompt", "ss_instance_prompt")  # what a trainer read, without any syntax
WORDS = (*PHRASES, "modelspec.tags", "ss_tags")
MOST_WORDS = 50  # of a field; captions of a training set can have thousands
MAX_TAGS = 8 << 20  # characters of the tag counts that are read; longer ones name no trigger
TAGS = "ss_tag_frequency"  # kohya: {"10_sks cat": {"sks cat": 20, …}, …}, JSON


def trigger(metadata: Mapping[str, str]) -> str:
    """The trigger phrase, "" if there is none; tags count only if all captions are the same.

    It is written as in a prompt: brackets of captions are escaped.
    """
    for field in PHRASES:
        if phrase := _phrase(metadata.get(field, "")):
            return escaped(phrase) if field in CAPTIONS else phrase
    return escaped(_only_tag(metadata.get(TAGS, "")))


def all_triggers(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """All trigger words of the header, without tags that only describe pictures."""
    by_field = trained_words({field: metadata.get(field, "") for field in PHRASES}).values()
    return tuple(dict.fromkeys(word for words in by_field for word in words))


def trained_words(metadata: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Header field → trigger words or tags, the most frequent tags first."""
    by_field = {field: _split(metadata.get(field, ""))[:MOST_WORDS] for field in WORDS}
    by_field[TAGS] = tuple(tag_counts(metadata))
    return {field: words for field, words in by_field.items() if words}


def tag_counts(metadata: Mapping[str, str]) -> dict[str, int]:
    """Tag of the training set's captions → count, the most frequent first."""
    counts: Counter[str] = Counter()
    for folder in _tag_folders(metadata.get(TAGS, "")):
        counts.update({tag.strip(): count for tag, count in folder.items()})
    return {tag: count for tag, count in counts.most_common(MOST_WORDS) if tag}


def class_word(metadata: Mapping[str, str]) -> str:
    """The class of the concept, such as "cat"; "" if the file does not have it.

    kohya's folders are called "10_sks cat", those of its regularisation pictures "1_cat".
    """
    regularisation = _folder_names(metadata, "ss_reg_dataset_dirs")
    trained = _folder_names(metadata, "ss_dataset_dirs", TAGS)
    classes = [*regularisation, *(name.split()[-1] for name in trained if len(name.split()) > 1)]
    return Counter(classes).most_common(1)[0][0] if classes else ""


def _folder_names(metadata: Mapping[str, str], *fields: str) -> list[str]:
    """The names of a training set's folders, without the number of repeats."""
    names = [name for field in fields for name in _parsed_object(metadata.get(field, ""))]
    return [name.partition("_")[2].strip() for name in names if name.partition("_")[2].strip()]


def _phrase(text: str) -> str:
    """The trigger phrase in a field: the whole text, or the first entry of a JSON list."""
    if _parse_list(text) is None:
        return text.strip()
    return next(iter(_split(text)), "")


def _split(text: str) -> tuple[str, ...]:
    """The trigger words in a field: the entries of a JSON list, or parts between commas."""
    entries = _parse_list(text)
    words = text.split(",") if entries is None else entries
    return tuple(filter(None, dict.fromkeys(str(word).strip() for word in words)))


def _parse_list(text: str) -> list[Any] | None:
    """The entries of a JSON list, or of an object of lists; None for any other text."""
    try:
        value = json.loads(text) if len(text) <= MAX_TAGS else None
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        return [word for words in value.values() if isinstance(words, list) for word in words]
    return value if isinstance(value, list) else None


def _parsed_object(text: str) -> dict[str, Any]:
    """A JSON object; {} for any other text, and for one that is too long to parse."""
    try:
        value = json.loads(text) if len(text) <= MAX_TAGS else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _tag_folders(text: str) -> list[dict[str, int]]:
    """kohya's tag counts of all folders; other formats are ignored."""
    return [
        folder
        for folder in _parsed_object(text).values()
        if isinstance(folder, dict) and all(isinstance(count, int) for count in folder.values())
    ]


def _only_tag(text: str) -> str:
    """The caption of all pictures of a kohya training set, "" if they differ."""
    folders = _parsed_object(text).values()
    if not all(isinstance(folder, (dict, list)) for folder in folders):
        return ""  # another tool's format
    tags = {str(tag).strip() for folder in folders for tag in folder}
    return tags.pop() if len(tags) == 1 else ""
