"""The library of added LoRAs: every file once, by its hash, with an index for searches.

At home the folder stays; in a public app it is inside the visit's folder.
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
from app.storage.sqlite import add_column, exclusive, index
from merging.errors import MergeError
from merging.io.hub import NamedFile

TABLE = """create table if not exists loras (
    sha256 text primary key, name text, base text, family text, megabytes real, trigger text,
    words text, captions text, used integer, origin text default ''
)"""
FIELDS = "sha256, name, base, family, megabytes, trigger, words, captions, origin"
MAX_RESULTS = 12
# Scores of hits by field: a trigger describes a file better than one of its captions.
FIELD_WEIGHTS = {"trigger": 4, "name": 3, "words": 2, "captions": 1}
# Words of prompts that do not describe the picture.
STOP_WORDS = frozenset(
    "a an and at by for in of on the to with photo picture image background".split()  # noqa: SIM905
)
MIN_PREFIX = 3  # letters from which the beginning of a word is a hit


@dataclass(frozen=True)
class LibraryEntry:
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
        """The entry's title in lists."""
        size = f"{self.megabytes:.0f} MB" if self.megabytes >= 1 else "under 1 MB"
        return " · ".join(filter(None, [self.name, self.trigger, self.base, size]))


class Library:
    """Files and an index in ``folder``, made with the first file; no connection stays open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, card: Card) -> None:
        """Add a file, or mark it as used again. Raises OSError or MergeError if that fails."""
        self._folder.mkdir(parents=True, exist_ok=True)
        target = self._file(card.sha256)
        with exclusive(self._folder, "The library's"):
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
        """Write the file's row of the index, as the one that was used last."""
        row = (
            *(card.sha256, card.name, card.base, card.family, card.megabytes, card.trigger),
            json.dumps(card.words),
            json.dumps(card.captions),
            card.origin,
        )
        with self._index() as connection:
            connection.execute(
                f"insert or replace into loras ({FIELDS}, used) values (?, ?, ?, ?, ?, ?, ?, ?, ?, "
                "(select coalesce(max(used), 0) + 1 from loras))",
                row,
            )

    def search(self, text: str = "") -> list[LibraryEntry]:
        """Entries that fit a name, a trigger or a prompt, the best first; for "" the newest first.

        At most MAX_RESULTS; entries whose file was deleted are skipped.
        """
        terms = [word for word in _words(text) if word not in STOP_WORDS]
        entries = [entry for entry in self._all() if self._file(entry.sha256).is_file()]
        if not terms:
            return entries[:MAX_RESULTS] if not text.strip() else []
        scored = [(_score(entry, terms), entry) for entry in entries]
        hits = [(score, entry) for score, entry in scored if score]
        return [entry for _, entry in sorted(hits, key=lambda hit: -hit[0])][:MAX_RESULTS]

    def file(self, sha256: str) -> NamedFile:
        """A LoRA's path, name and origin; MergeError if it is gone."""
        for entry in self._all():
            if entry.sha256 == sha256 and self._file(sha256).is_file():
                return NamedFile(self._file(sha256), f"{entry.name}.safetensors", entry.origin)
        raise MergeError("This LoRA is no longer in the library: add its file again.")

    def trigger(self, sha256: str) -> str:
        """The trigger words that a LoRA was kept with, from its header or a file beside it."""
        return next((entry.trigger for entry in self._all() if entry.sha256 == sha256), "")

    def forget(self, sha256: str) -> None:
        """Delete a file and its entry."""
        with exclusive(self._folder, "The library's"):
            with self._index() as connection:
                known = connection.execute("delete from loras where sha256 = ?", (sha256,)).rowcount
            if known:
                self._file(sha256).unlink(missing_ok=True)

    def _all(self) -> list[LibraryEntry]:
        """Every entry, the one that was used last first."""
        if not (self._folder / "index.sqlite").is_file():
            return []
        with self._index() as connection:
            rows = connection.execute(f"select {FIELDS} from loras order by used desc").fetchall()
        return list(map(_entry, rows))

    def _file(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.safetensors"

    @contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        with index(self._folder / "index.sqlite", TABLE, "The library's") as connection:
            add_column(connection, "loras", "origin", "text default ''")
            yield connection


def _entry(row: tuple) -> LibraryEntry:
    """The entry of a row with FIELDS."""
    sha256, name, base, family, megabytes, trigger, *lists, origin = row
    words, captions = (tuple(json.loads(text)) for text in lists)
    return LibraryEntry(sha256, name, base, family, megabytes, trigger, words, captions, origin)


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"\w+", text.lower())))


def _score(entry: LibraryEntry, terms: list[str]) -> int:
    """How well an entry fits: every search term counts once, in its best field."""
    fields = {
        "trigger": [entry.trigger],
        "name": [entry.name.replace("_", " ")],
        "words": entry.words,
        "captions": entry.captions,
    }
    known = {field: set(_words(" ".join(texts))) for field, texts in fields.items()}
    return sum(
        max(
            (FIELD_WEIGHTS[field] for field, words in known.items() if _has(words, term)), default=0
        )
        for term in terms
    )


def _has(words: set[str], term: str) -> bool:
    if term in words:
        return True
    return len(term) >= MIN_PREFIX and any(word.startswith(term) for word in words)
