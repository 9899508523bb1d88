"""The history of merges and pictures: an entry per press of a button, files stored by their hash.

At home the folder stays; in a public app it is inside the visit's folder.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from app.schemas.draw import DrawOrder, Picture
from app.schemas.merge import FinishedMerge, SelectedFile
from app.storage import history_matrix
from app.storage.history_entry import FIELDS, HistoryEntry, entry_of
from app.storage.history_json import merge_json, merge_of, sheet_json, sheet_of
from app.storage.history_matrix import KeptMatrix, MatrixCell
from app.storage.sessions import keep_copy
from app.storage.sqlite import add_column, exclusive, index
from merging.errors import MergeError
from merging.io.files import file_sha256

# autoincrement: the number of a deleted entry, which a page may still show, is not used again.
TABLE = """create table if not exists moments (
    id integer primary key autoincrement, made real, merge text, report text, sheet text,
    files text, pinned integer default 0
)"""
GONE = "This entry is no longer in the history: fold the section and open it again to see what is."
# What identifies a merge, which has an entry for every sheet of its pictures.
SAME = "json_extract(merge, '$.recipe', '$.order.dtype')"
STORED_NAME = re.compile(r"[0-9a-f]{64}\.\w+")


@dataclass(frozen=True)
class OpenedEntry:
    """An entry with its files in a folder of the visit."""

    merged: FinishedMerge
    scene: DrawOrder | None = None
    pictures: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = ()  # on LoRAs that have other bytes than they had

    @property
    def here(self) -> tuple[SelectedFile, ...]:
        """The LoRAs whose files still exist."""
        return tuple(pick for pick in self.merged.order.picks if pick.path.is_file())

    @property
    def files(self) -> tuple[SelectedFile, ...]:
        """These LoRAs and the textual inversions."""
        return (*self.here, *self.merged.order.words)

    def moved(self, places: Sequence[Path]) -> OpenedEntry:
        """The entry with its ``files`` in other places, such as in the rows of the page."""
        places_of = {file.path: place for file, place in zip(self.files, places, strict=True)}
        order = self.merged.order
        picks, words = (
            tuple(replace(file, path=places_of.get(file.path, file.path)) for file in files)
            for files in (order.picks, order.words)
        )
        order = replace(order, picks=picks, words=words)
        return replace(self, merged=replace(self.merged, order=order))


class History:
    """Files and an index in ``folder``, made with the first merge; no connection stays open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(
        self,
        merged: FinishedMerge,
        scene: DrawOrder | None = None,
        pictures: Sequence[Picture] = (),
        entry: int | None = None,
    ) -> int:
        """Save a merge, with its pictures if there are any, and return the entry's number.

        ``entry`` gets the pictures, if it still exists. Raises OSError or MergeError if saving
        fails; nothing is left then.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        files: list[str] = []
        with exclusive(self._folder, "The history's"):
            try:
                put = partial(self._store, files)
                merge = merge_json(merged, put)
                sheet = sheet_json(scene, pictures, put) if scene else "null"
                row = (merge, json.dumps(merged.report), sheet, json.dumps(files))
                return self._write(row, entry)
            except (OSError, MergeError):
                self._remove_unused(files)
                raise

    def keep_matrix(self, cells: Sequence[MatrixCell], sheet: Path) -> None:
        """Save which entries stand together in a grid, and its PNG. Raises as ``keep``."""
        files: list[str] = []
        with exclusive(self._folder, "The history's"):
            try:
                stored = self._store(files, sheet)
                with self._index() as connection:
                    history_matrix.insert(connection, cells, stored)
            except (OSError, MergeError):
                self._remove_unused(files)
                raise

    def matrices(self, count: int) -> list[KeptMatrix]:
        """The newest matrices, with those of their entries that there still are."""
        if not self._exists:
            return []
        with self._index() as connection:
            found = history_matrix.newest(connection, count)
        which = "where id in (select value from json_each(?))"
        return [
            KeptMatrix(
                made,
                cells,
                self._folder / sheet,
                {
                    row[0]: entry_of(*row)
                    for row in self._rows(which, (json.dumps([cell.entry for cell in cells]),))
                },
            )
            for made, cells, sheet in found
        ]

    def entries(self, start: int, count: int) -> list[HistoryEntry]:
        """``count`` entries from ``start`` on, the newest first."""
        rows = self._rows("order by id desc limit ? offset ?", (count, start))
        return [entry_of(*row) for row in rows]

    def entry(self, entry: int) -> HistoryEntry:
        """One entry; MergeError if it is gone."""
        rows = self._rows("where id = ?", (entry,))
        if not rows:
            raise MergeError(GONE)
        return entry_of(*rows[0])

    def merges(self, count: int, without: FinishedMerge | None = None) -> list[HistoryEntry]:
        """The first entries of the newest merges, ``without`` one of them."""
        first = f"where id in (select min(id) from moments group by {SAME})"
        known = json.dumps([without.recipe, without.order.dtype] if without else None)
        which = f"{first} and {SAME} != json(?) order by id desc limit ?"
        return [entry_of(*row) for row in self._rows(which, (known, count))]

    def size(self) -> tuple[int, int]:
        """The number of entries, and the bytes of all files."""
        if not self._exists:
            return 0, 0
        with self._index() as connection:
            (count,) = connection.execute("select count(*) from moments").fetchone()
        return count, sum(path.stat().st_size for path in self._folder.iterdir() if path.is_file())

    def open(self, entry: int, folder: Path, locate_lora: Callable[[str], Path]) -> OpenedEntry:
        """The entry, its files as links in ``folder``; ``locate_lora`` gives a LoRA's path by hash.

        Raises MergeError if the entry or one of its files is gone.
        """
        rows = self._rows("where id = ?", (entry,), "merge, report, sheet")
        if not rows:
            raise MergeError(GONE)
        merge, report, sheet = rows[0]
        place = partial(self._link, folder)
        try:
            merged = merge_of(merge, report, place, locate_lora)
            if sheet == "null":
                return OpenedEntry(merged)
            return OpenedEntry(merged, *sheet_of(sheet, merged, place))
        except (KeyError, TypeError, ValueError) as error:
            raise MergeError(
                "This entry of the history was kept by another version and cannot be opened; "
                "delete it."
            ) from error

    def forget(self, entry: int) -> None:
        """Delete an entry, and its files that no other entry has."""
        rows = self._rows("where id = ?", (entry,), "files")
        if not rows:
            return
        with exclusive(self._folder, "The history's"):
            with self._index() as connection:
                connection.execute("delete from moments where id = ?", (entry,))
                sheets = history_matrix.drop_emptied(connection)
            self._remove_unused([*json.loads(rows[0][0]), *sheets])

    def pin(self, entry: int, pinned: bool) -> None:
        """Protect an entry from ``make_room``, or no longer; MergeError if it is gone."""
        self.entry(entry)
        with self._index() as connection:
            connection.execute("update moments set pinned = ? where id = ?", (pinned, entry))

    def make_room(self, most: int, spared: int) -> tuple[HistoryEntry, ...]:
        """Delete the oldest entries until all files have at most ``most`` bytes.

        Pinned entries and ``spared`` stay, so more bytes may be left. Returns the deleted entries.
        Pages that have one of them open keep its files by their links.
        """
        gone: list[HistoryEntry] = []
        while self.size()[1] > most and (oldest := self._oldest(spared)):
            self.forget(oldest.id)
            gone.append(oldest)
        return tuple(gone)

    def _oldest(self, spared: int) -> HistoryEntry | None:
        rows = self._rows("where id != ? and not pinned order by id limit 1", (spared,))
        return entry_of(*rows[0]) if rows else None

    @property
    def _exists(self) -> bool:
        return (self._folder / "index.sqlite").is_file()

    def _store(self, files: list[str], path: Path) -> str:
        """Store a file under its hash and add it to ``files``; returns its name here."""
        name = f"{file_sha256(path)}{path.suffix}"
        files.append(name)
        if not (self._folder / name).is_file():
            keep_copy(path, self._folder / name)
        return name

    def _link(self, folder: Path, stored: str, name: str) -> Path:
        """Link a stored file into ``folder`` under its former name."""
        source = self._folder / stored
        if not STORED_NAME.fullmatch(stored) or not source.is_file():
            raise MergeError(
                f"{Path(name).name} is missing in the history's folder, so this entry cannot be "
                "opened; delete it."
            )
        target = folder / stored[:12] / Path(name).name
        target.parent.mkdir(exist_ok=True)
        keep_copy(source, target)
        return target

    def _write(self, row: tuple[str, ...], entry: int | None) -> int:
        """Insert an entry, or update ``entry``."""
        with self._index() as connection:
            if entry is not None:
                update = "update moments set merge = ?, report = ?, sheet = ?, files = ?"
                if connection.execute(f"{update} where id = ?", (*row, entry)).rowcount:
                    return entry
            fields = "(made, merge, report, sheet, files) values (?, ?, ?, ?, ?)"
            inserted = connection.execute(f"insert into moments {fields}", (time.time(), *row))
            return inserted.lastrowid or 0

    def _remove_unused(self, files: Sequence[str]) -> None:
        """Remove those of ``files`` that no entry and no matrix has."""
        rows = self._rows("", (), "files")
        used = self._sheets() | {name for (names,) in rows for name in json.loads(names)}
        for name in {*files} - used:
            (self._folder / name).unlink(missing_ok=True)

    def _sheets(self) -> set[str]:
        if not self._exists:
            return set()
        with self._index() as connection:
            return history_matrix.sheets(connection)

    def _rows(self, which: str, values: tuple[int | str, ...], fields: str = FIELDS) -> list[tuple]:
        if not self._exists:
            return []
        with self._index() as connection:
            return connection.execute(f"select {fields} from moments {which}", values).fetchall()

    @contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        with index(self._folder / "index.sqlite", TABLE, "The history's") as connection:
            add_column(connection, "moments", "pinned", "integer default 0")
            connection.execute(history_matrix.TABLE)
            yield connection


def room_note(gone: Sequence[HistoryEntry], size: int, most: int) -> str:
    """A note on the entries that ``make_room`` deleted, and on a history that is still too large.

    ``size`` is in bytes, ``most`` in MB. "" if there is nothing to note.
    """
    notes = [_deleted_note(gone)] if gone else []
    if size > most * 2**20:
        notes.append(
            "what is ticked “Keep” stays, as does what was just made: it has "
            f"{size / 2**20:.0f} MB now"
        )
    limit = f"The history may have at most {most} MB (max_history_mb)"
    return f"{limit}: {'; '.join(notes)}." if notes else ""


def _deleted_note(gone: Sequence[HistoryEntry]) -> str:
    titles = ", ".join(entry.title for entry in gone[:3])
    more = f" and {len(gone) - 3} more" if len(gone) > 3 else ""
    return f"its oldest entries were deleted, {titles}{more}"
