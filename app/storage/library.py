"""The library of added LoRAs: every file once, by its hash, with an index for searches.

What CLIP makes of a file is computed when it is first asked for, and kept in the index too.

At home the folder stays; in a public app it is inside the visit's folder.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.schemas.card import Card
from app.schemas.thumbnail import picture_of
from app.storage.sessions import keep_copy
from app.storage.sqlite import add_column, exclusive, index
from merging.errors import MergeError
from merging.io.hub import NamedFile
from merging.retrieval.ranking import fits
from merging.retrieval.words import hits, terms_of, texts_of

if TYPE_CHECKING:
    from merging.retrieval.clip_reader import ClipReader, Look

TABLE = """create table if not exists loras (
    sha256 text primary key, name text, base text, family text, megabytes real, trigger text,
    words text, captions text, used integer, origin text default ''
)"""
FIELDS = "sha256, name, base, family, megabytes, trigger, words, captions, origin"
MAX_RESULTS = 12
# What CLIP made of a file; of an older CLIP nothing is read.
LOOKS = """create table if not exists looks (
    sha256 text, clip text, data blob, primary key (sha256, clip)
)"""


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


@dataclass(frozen=True)
class Suggestion:
    """A LoRA that fits a prompt."""

    entry: LibraryEntry
    score: float  # 0 to 1 (merging/retrieval/ranking.py)
    named: bool  # its trigger is in the prompt

    @property
    def title(self) -> str:
        """The entry's title and how well it fits."""
        return f"{self.entry.title} · {'named' if self.named else f'fits {self.score:.0%}'}"


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
        thumbnail = card.thumbnail or self.thumbnail(card.sha256)
        with self._index() as connection:
            connection.execute("delete from looks where sha256 = ?", (card.sha256,))
            connection.execute(
                f"insert or replace into loras ({FIELDS}, thumbnail, used) values (?, ?, ?, ?, ?, "
                "?, ?, ?, ?, ?, (select coalesce(max(used), 0) + 1 from loras))",
                (*row, thumbnail),
            )

    def search(self, text: str = "") -> list[LibraryEntry]:
        """Entries that fit a name, a trigger or a prompt, the best first; for "" the newest first.

        At most MAX_RESULTS; entries whose file was deleted are skipped.
        """
        terms, entries = terms_of(text), self._present()
        if not terms:
            return entries[:MAX_RESULTS] if not text.strip() else []
        scored = [(sum(hits(entry, terms)), entry) for entry in entries]
        found = [(score, entry) for score, entry in scored if score]
        return [entry for _, entry in sorted(found, key=lambda hit: -hit[0])][:MAX_RESULTS]

    def suggest(
        self,
        prompt: str,
        reader: Callable[[], ClipReader],
        base: str = "",
        without: Collection[str] = (),
    ) -> list[Suggestion]:
        """LoRAs that fit a prompt, the best first, at most MAX_RESULTS.

        Only those for ``base``, if it is given, and none of the hashes in ``without``. The CLIP is
        asked for only if the words of the prompt leave anything to it.
        """
        entries = [
            entry
            for entry in self._present()
            if base in ("", entry.base) and entry.sha256 not in without
        ]

        def evidence(things: Sequence[str], places: Sequence[int]) -> list[float]:
            clip = reader()
            return clip.evidence(things, self._looks(clip, [entries[place] for place in places]))

        found = fits(prompt, entries, evidence)[:MAX_RESULTS]
        return [Suggestion(entries[fit.place], fit.score, fit.named) for fit in found]

    def _looks(self, reader: ClipReader, entries: Sequence[LibraryEntry]) -> list[Look]:
        """What CLIP makes of the entries, kept in the index."""
        described = {entry.sha256: texts_of(entry) for entry in entries}
        with self._index() as connection:
            query = "select sha256, data from looks where clip = ?"
            known = dict(connection.execute(query, (reader.key,)).fetchall())
            fresh = {
                entry.sha256: reader.look(
                    texts_of(entry), picture_of(_thumbnail(connection, entry.sha256))
                )
                for entry in entries
                if entry.sha256 not in known
            }
            rows = [(sha256, reader.key, look.data) for sha256, look in fresh.items()]
            connection.executemany("insert or replace into looks values (?, ?, ?)", rows)
        return [
            fresh.get(sha256) or reader.kept_look(texts, known[sha256])
            for sha256, texts in described.items()
        ]

    def file(self, sha256: str) -> NamedFile:
        """A LoRA's path, name and origin; MergeError if it is gone."""
        for entry in self._all():
            if entry.sha256 == sha256 and self._file(sha256).is_file():
                return NamedFile(self._file(sha256), f"{entry.name}.safetensors", entry.origin)
        raise MergeError("This LoRA is no longer in the library: add its file again.")

    def trigger(self, sha256: str) -> str:
        """The trigger words that a LoRA was kept with, from its header or a file beside it."""
        return next((entry.trigger for entry in self._all() if entry.sha256 == sha256), "")

    def thumbnail(self, sha256: str) -> str:
        """The preview picture that a LoRA was kept with, as a data URL; "" without one."""
        if not self._begun:
            return ""
        with self._index() as connection:
            return _thumbnail(connection, sha256)

    def forget(self, sha256: str) -> None:
        """Delete a file and its entry."""
        with exclusive(self._folder, "The library's"):
            with self._index() as connection:
                known = connection.execute("delete from loras where sha256 = ?", (sha256,)).rowcount
                connection.execute("delete from looks where sha256 = ?", (sha256,))
            if known:
                self._file(sha256).unlink(missing_ok=True)

    def _all(self) -> list[LibraryEntry]:
        """Every entry, the one that was used last first."""
        if not self._begun:
            return []
        with self._index() as connection:
            rows = connection.execute(f"select {FIELDS} from loras order by used desc").fetchall()
        return list(map(_entry, rows))

    def _present(self) -> list[LibraryEntry]:
        """Those whose file is there."""
        return [entry for entry in self._all() if self._file(entry.sha256).is_file()]

    @property
    def _begun(self) -> bool:
        return (self._folder / "index.sqlite").is_file()

    def _file(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.safetensors"

    @contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        with index(self._folder / "index.sqlite", TABLE, "The library's") as connection:
            add_column(connection, "loras", "origin", "text default ''")
            add_column(connection, "loras", "thumbnail", "text default ''")
            connection.execute(LOOKS)
            yield connection


def _entry(row: tuple) -> LibraryEntry:
    """The entry of a row with FIELDS."""
    sha256, name, base, family, megabytes, trigger, *lists, origin = row
    words, captions = (tuple(json.loads(text)) for text in lists)
    return LibraryEntry(sha256, name, base, family, megabytes, trigger, words, captions, origin)


def _thumbnail(connection: sqlite3.Connection, sha256: str) -> str:
    row = connection.execute("select thumbnail from loras where sha256 = ?", (sha256,)).fetchone()
    return row[0] if row else ""
