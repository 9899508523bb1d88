"""The library of added LoRAs: every file once, by its hash, with an index for searches.

Files of one base may be packed into one (app/storage/library_packs.py): each stays an entry.

What CLIP makes of a file is computed when it is first asked for, and kept in the index too.

At home the folder stays; in a public app it is inside the visit's folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.schemas.card import Card
from app.schemas.pack import PackOffer
from app.schemas.thumbnail import picture_of
from app.storage.library_folder import (
    LibraryEntry,
    LibraryFolder,
    known_as,
    note_hash,
    thumbnail_of_row,
    unsettle,
    write_row,
)
from app.storage.library_packs import replace_by_pack, take_out
from app.storage.sessions import keep_copy
from merging.errors import MergeError
from merging.io.hub import NamedFile
from merging.retrieval.ranking import fits
from merging.retrieval.words import hits, terms_of, texts_of

if TYPE_CHECKING:
    from merging.retrieval.clip_reader import ClipReader, Look

MAX_RESULTS = 12
TOLD = ("name", "base", "family", "megabytes", "trigger", "origin")  # of a card, as they are
GONE = "This LoRA is no longer in the library: add its file again."


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
        self._folder = LibraryFolder(folder)

    def keep(self, card: Card) -> None:
        """Add a file, or mark it as used again. Raises OSError or MergeError if that fails.

        A LoRA that came from a pack here stays in the pack.
        """
        self._folder.path.mkdir(parents=True, exist_ok=True)
        with self._folder.changing():
            known = self._known(card.sha256, earlier=False)
            packed = known is not None and bool(known.pack)
            target = self._folder.file(card.sha256)
            fresh = not packed and not target.is_file()
            if fresh:
                keep_copy(card.path, target)
            try:
                self._note(card, known.sha256 if known and packed else "")
            except (OSError, MergeError):
                if fresh:
                    target.unlink()
                raise

    def _note(self, card: Card, packed: str) -> None:
        """Write the file's row of the index, as the one that was used last.

        ``packed`` is the row's hash where it stays in its pack, else "".
        """
        sha256 = packed or card.sha256
        row = {
            **{name: getattr(card, name) for name in TOLD},
            "sha256": sha256,
            "words": json.dumps(card.words),
            "captions": json.dumps(card.captions),
            "thumbnail": card.thumbnail or self.thumbnail(sha256),
            **({} if packed else {"pack": "", "member": ""}),
        }
        with self._folder.index() as connection:
            connection.execute("delete from looks where sha256 = ?", (sha256,))
            (last,) = connection.execute("select coalesce(max(used), 0) from loras").fetchone()
            write_row(connection, {**row, "used": last + 1})

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
        here = self._known_hashes(without)
        entries = [
            entry
            for entry in self._present()
            if base in ("", entry.base) and entry.sha256 not in here
        ]

        def evidence(things: Sequence[str], places: Sequence[int]) -> list[float]:
            clip = reader()
            return clip.evidence(things, self._looks(clip, [entries[place] for place in places]))

        found = fits(prompt, entries, evidence)[:MAX_RESULTS]
        return [Suggestion(entries[fit.place], fit.score, fit.named) for fit in found]

    def _looks(self, reader: ClipReader, entries: Sequence[LibraryEntry]) -> list[Look]:
        """What CLIP makes of the entries, kept in the index."""
        described = {entry.sha256: texts_of(entry) for entry in entries}
        with self._folder.index() as connection:
            query = "select sha256, data from looks where clip = ?"
            known = dict(connection.execute(query, (reader.key,)).fetchall())
            fresh = {
                entry.sha256: reader.look(
                    texts_of(entry), picture_of(thumbnail_of_row(connection, entry.sha256))
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

    def entry(self, sha256: str, earlier: bool = True) -> LibraryEntry:
        """The LoRA that has this hash, or had it before it was packed; MergeError if it is gone.

        Without ``earlier`` only the one that has it.
        """
        if entry := self._known(sha256, earlier):
            return entry
        raise MergeError(GONE)

    def file(self, sha256: str) -> NamedFile:
        """A LoRA's path, or PACK.safetensors#NAME, name and origin; MergeError if it is gone."""
        entry = self.entry(sha256)
        path = self._folder.file(entry.pack or entry.sha256)
        place = Path(f"{path}#{entry.member}") if entry.pack else path
        return NamedFile(place, f"{entry.name}.safetensors", entry.origin)

    def thumbnail(self, sha256: str) -> str:
        """The preview picture that a LoRA was kept with, as a data URL; "" without one."""
        if not self._folder.begun:
            return ""
        with self._folder.index() as connection:
            return thumbnail_of_row(connection, sha256)

    def forget(self, sha256: str) -> None:
        """Delete an entry with its file; a pack is deleted with the last of its LoRAs."""
        with self._folder.changing():
            gone = [entry for entry in self._folder.entries() if entry.sha256 == sha256]
            with self._folder.index() as connection:
                unsettle(connection, [entry.pack or entry.sha256 for entry in gone])
                for table in ("loras", "looks", "hashes"):
                    connection.execute(f"delete from {table} where sha256 = ?", (sha256,))
            self._folder.settle()

    def pack(self, offer: PackOffer) -> None:
        """Put a pack in the place of the files in it; MergeError if one of them has changed."""
        replace_by_pack(self._folder, offer)

    def take_out(self, sha256: str, path: Path) -> None:
        """Put a file in the place of what a pack has of a LoRA; MergeError if it is in none."""
        take_out(self._folder, sha256, path)

    def note_hash(self, sha256: str, written: str) -> None:
        """Note that a packed LoRA was written as a file with another hash than it had here."""
        with self._folder.index() as connection:
            note_hash(connection, written, sha256, earlier=False)

    def _known(self, sha256: str, earlier: bool) -> LibraryEntry | None:
        """The entry of a hash whose file is there."""
        if not self._folder.begun:
            return None
        with self._folder.index() as connection:
            key = known_as(connection, sha256, earlier)
        return next((entry for entry in self._present() if entry.sha256 == key), None)

    def _known_hashes(self, hashes: Collection[str]) -> set[str]:
        """The entries of these hashes."""
        if not hashes or not self._folder.begun:
            return set()
        with self._folder.index() as connection:
            return {known_as(connection, sha256) for sha256 in hashes}

    def _present(self) -> list[LibraryEntry]:
        """The entries whose file was not deleted by hand, the one that was used last first."""
        return list(filter(self._folder.is_there, self._folder.entries()))
