"""TRIGGER=PICTURES on the command line: reference pictures of a concept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from merging.errors import MergeError
from merging.scoring.references import pictures_in


def reference_pictures(texts: Sequence[str]) -> dict[str, list[Path]]:
    """Trigger → its pictures; MergeError for another text, or where there are no pictures."""
    pictures: dict[str, list[Path]] = {}
    for text in texts:
        trigger, equals, place = text.partition("=")
        if not (trigger.strip() and equals and place):
            raise MergeError(f"--reference {text}: write TRIGGER=FOLDER, such as 'sks cat=photos'.")
        pictures.setdefault(trigger.strip(), []).extend(pictures_in(Path(place)))
    return pictures
