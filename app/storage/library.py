"""LoRAs that were added before: each file once, by its hash, and an index that can be searched.

On a person's own machine the folder stays; a visitor of a public app has one inside the visit.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.schemas.card import Card
from app.storage.sessions import keep_copy
from app.storage.sqlite import add_column, index
from merging.errors import MergeError
from merging.io.hub import NamedFile

TABLE = """create table if not exists loras (
    sha256 text primary key, name text, base text, family text, megabytes real, trigger text,
    words text, captions text, used integer, origin text default ''
)"""
FIELDS = "sha256, name, base, family, megabytes, trigger, words, captions, origin"
MOST_FOUND = 12
# What a hit in each field is worth: a trigger says more of a file than one of its captions.
WORTH = {"trigger": 4, "name": 3, "words": 2, "captions": 1}
# Words of prompts that say nothing of what is in the picture.
SILENT = frozenset(
    "a an and at by for in of on the to with photo picture image background".split()  # noqa: SIM905
)
PREFIX = 3  # from so many letters on, the beginning of a word finds it


@dataclass(frozen=True)
class Entry:
    """One LoRA of the library."""

    sha256: str
    name: str
    base: str
    family: str
    megabytes: float
    trigger: str
    words: tuple[str, ...]
    captions: tuple[str, ...]
    origin: str = ""  # owner/repo/file@commit where it is from the Hub

    @property
    def title(self) -> str:
        """What a person chooses by."""
        size = f"{self.megabytes:.0f} MB" if self.megabytes >= 1 else "under 1 MB"
        return " · ".join(filter(None, [self.name, self.trigger, self.base, size]))


class Library:
    """Files under ``folder``, made when the first one is kept; no connection stays open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, card: Card) -> None:
        """Take a file in, or note that it was used again. Raises OSError when it cannot."""
        self._folder.mkdir(parents=True, exist_ok=True)
        target = self._file(card.sha256)
        fresh = not target.is_file()
        if fresh:
            keep_copy(card.path, target)
        try:
            self._note(card)
        except (OSError, MergeError):
            if fresh:
                target.unlink()
            raise

    def _note(self, card: Card) -> None:
        """The index's row of a file, as the one that was used last."""
        row = (
            *(card.sha256, card.name, card.base, card.family, card.megabytes, card.trigger),
            json.dumps(card.words),
            json.dumps(card.captions),
            card.origin,
        )
        with self._index() as index:
            index.execute(
                f"insert or replace into loras ({FIELDS}, used) values (?, ?, ?, ?, ?, ?, ?, ?, ?, "
                "(select coalesce(max(used), 0) + 1 from loras))",
                row,
            )

    def search(self, text: str = "") -> list[Entry]:
        """Those that fit a name, a trigger or a scene, the best first; for "" the newest first.

        At most MOST_FOUND; files that somebody has deleted are passed over.
        """
        wanted = [word for word in _words(text) if word not in SILENT]
        entries = [entry for entry in self._all() if self._file(entry.sha256).is_file()]
        if not wanted:
            return entries[:MOST_FOUND] if not text.strip() else []
        scored = [(_score(entry, wanted), entry) for entry in entries]
        found = [(score, entry) for score, entry in scored if score]
        return [entry for _, entry in sorted(found, key=lambda each: -each[0])][:MOST_FOUND]

    def file(self, sha256: str) -> NamedFile:
        """Where a LoRA lies, its name and its origin; MergeError once it is gone."""
        for entry in self._all():
            if entry.sha256 == sha256 and self._file(sha256).is_file():
                return NamedFile(self._file(sha256), f"{entry.name}.safetensors", entry.origin)
        raise MergeError("This LoRA is no longer in the library: add its file again.")

    def forget(self, sha256: str) -> None:
        """Delete a file and its entry."""
        with self._index() as index:
            known = index.execute("delete from loras where sha256 = ?", (sha256,)).rowcount
        if known:
            self._file(sha256).unlink(missing_ok=True)

    def _all(self) -> list[Entry]:
        """Every entry, the one that was used last first."""
        if not (self._folder / "index.sqlite").is_file():
            return []
        with self._index() as index:
            rows = index.execute(f"select {FIELDS} from loras order by used desc").fetchall()
        return list(map(_entry, rows))

    def _file(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.safetensors"

    @contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        with index(self._folder / "index.sqlite", TABLE, "The library's") as found:
            add_column(found, "loras", "origin", "text default ''")
            yield found


def _entry(row: tuple) -> Entry:
    """A row of FIELDS."""
    sha256, name, base, family, megabytes, trigger, *listed, origin = row
    words, captions = (tuple(json.loads(each)) for each in listed)
    return Entry(sha256, name, base, family, megabytes, trigger, words, captions, origin)


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"\w+", text.lower())))


def _score(entry: Entry, wanted: list[str]) -> int:
    """How well an entry fits: each wanted word counts once, where it is worth most."""
    fields = {
        "trigger": [entry.trigger],
        "name": [entry.name.replace("_", " ")],
        "words": entry.words,
        "captions": entry.captions,
    }
    known = {field: set(_words(" ".join(texts))) for field, texts in fields.items()}
    return sum(
        max((WORTH[field] for field, words in known.items() if _has(words, word)), default=0)
        for word in wanted
    )


def _has(words: set[str], wanted: str) -> bool:
    if wanted in words:
        return True
    return len(wanted) >= PREFIX and any(word.startswith(wanted) for word in words)
