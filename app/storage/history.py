"""Merges and pictures of before: each press of a button is an entry, its files kept by their hash.

On a person's own machine the folder stays; a visitor of a public app has one inside the visit.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from app.schemas.draw import DrawOrder, Picture
from app.schemas.merge import FinishedMerge, SelectedFile
from app.storage.history_entry import FIELDS, Entry, entry_of
from app.storage.history_json import merge_json, merge_of, sheet_json, sheet_of
from app.storage.sessions import keep_copy
from app.storage.sqlite import add_column, index
from merging.errors import MergeError
from merging.io.files import file_sha256

# autoincrement: a page that still shows a deleted entry must not meet another one in its place.
TABLE = """create table if not exists moments (
    id integer primary key autoincrement, made real, merge text, report text, sheet text,
    files text, pinned integer default 0
)"""
GONE = "This entry is no longer in the history: fold the section and open it again to see what is."
# What a merge is the same by, though it has several entries, one for each sheet of its pictures.
SAME = "json_extract(merge, '$.recipe', '$.order.dtype')"
KEPT_NAME = re.compile(r"[0-9a-f]{64}\.\w+")


@dataclass(frozen=True)
class OpenedEntry:
    """An entry, its files in a folder of the visit."""

    merged: FinishedMerge
    scene: DrawOrder | None = None
    pictures: tuple[Picture, ...] = ()

    @property
    def here(self) -> tuple[SelectedFile, ...]:
        """The LoRAs whose files are still there."""
        return tuple(pick for pick in self.merged.order.picks if pick.path.is_file())


class History:
    """Files under ``folder``, made when the first merge is kept; no connection stays open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(
        self,
        merged: FinishedMerge,
        scene: DrawOrder | None = None,
        pictures: Sequence[Picture] = (),
        entry: int | None = None,
    ) -> int:
        """Write down a merge, with its pictures if there are any, and return the entry.

        ``entry`` gets the pictures, if it is still there. Raises OSError or MergeError when it
        cannot be kept; nothing is left of it then.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        files: list[str] = []
        try:
            put = partial(self._take_in, files)
            merge = merge_json(merged, put)
            sheet = sheet_json(scene, pictures, put) if scene else "null"
            row = (merge, json.dumps(merged.report), sheet, json.dumps(files))
            return self._write(row, entry)
        except (OSError, MergeError):
            self._tidy(files)
            raise

    def entries(self, start: int, count: int) -> list[Entry]:
        """Some of them, the newest first."""
        rows = self._rows("order by id desc limit ? offset ?", (count, start))
        return [entry_of(*row) for row in rows]

    def entry(self, entry: int) -> Entry:
        """One of them; MergeError if it is gone."""
        rows = self._rows("where id = ?", (entry,))
        if not rows:
            raise MergeError(GONE)
        return entry_of(*rows[0])

    def merges(self, count: int, but: FinishedMerge | None = None) -> list[Entry]:
        """The newest merges but for one, each once, by its first entry."""
        first = f"where id in (select min(id) from moments group by {SAME})"
        known = json.dumps([but.recipe, but.order.dtype] if but else None)
        which = f"{first} and {SAME} != json(?) order by id desc limit ?"
        return [entry_of(*row) for row in self._rows(which, (known, count))]

    def size(self) -> tuple[int, int]:
        """How many entries there are, and the bytes of all files."""
        if not self._begun:
            return 0, 0
        with self._index() as found:
            (count,) = found.execute("select count(*) from moments").fetchone()
        return count, sum(path.stat().st_size for path in self._folder.iterdir() if path.is_file())

    def open(self, entry: int, folder: Path, found: Callable[[str], Path]) -> OpenedEntry:
        """The entry, its files as links in ``folder``; ``found`` says where a LoRA lies.

        Raises MergeError if the entry or one of its files is gone.
        """
        rows = self._rows("where id = ?", (entry,), "merge, report, sheet")
        if not rows:
            raise MergeError(GONE)
        merge, report, sheet = rows[0]
        place = partial(self._placed, folder)
        try:
            merged = merge_of(merge, report, place, found)
            if sheet == "null":
                return OpenedEntry(merged)
            return OpenedEntry(merged, *sheet_of(sheet, merged, place))
        except (KeyError, TypeError, ValueError) as error:
            raise MergeError(
                "This entry of the history was kept by another version and cannot be opened; "
                "delete it."
            ) from error

    def forget(self, entry: int) -> None:
        """Delete an entry, and those of its files that no other one has."""
        rows = self._rows("where id = ?", (entry,), "files")
        if not rows:
            return
        with self._index() as found:
            found.execute("delete from moments where id = ?", (entry,))
        self._tidy(json.loads(rows[0][0]))

    def pin(self, entry: int, wanted: bool) -> None:
        """Let the limit never take an entry, or take it again; MergeError if it is gone."""
        self.entry(entry)
        with self._index() as found:
            found.execute("update moments set pinned = ? where id = ?", (wanted, entry))

    def make_room(self, most: int, spared: int) -> tuple[Entry, ...]:
        """Delete the oldest entries until all files have at most ``most`` bytes.

        Those that are pinned stay, and so does ``spared``: there may be more left than that.
        Returns those that went. What a page has open of one stays: it has links to the files.
        """
        gone: list[Entry] = []
        while self.size()[1] > most and (oldest := self._oldest(spared)):
            self.forget(oldest.id)
            gone.append(oldest)
        return tuple(gone)

    def _oldest(self, spared: int) -> Entry | None:
        rows = self._rows("where id != ? and not pinned order by id limit 1", (spared,))
        return entry_of(*rows[0]) if rows else None

    @property
    def _begun(self) -> bool:
        return (self._folder / "index.sqlite").is_file()

    def _take_in(self, files: list[str], path: Path) -> str:
        """A file under its hash, noted in ``files``; returns its name here."""
        name = f"{file_sha256(path)}{path.suffix}"
        files.append(name)
        if not (self._folder / name).is_file():
            keep_copy(path, self._folder / name)
        return name

    def _placed(self, folder: Path, kept: str, name: str) -> Path:
        """A link to a kept file in ``folder``, under the name that it had."""
        source = self._folder / kept
        if not KEPT_NAME.fullmatch(kept) or not source.is_file():
            raise MergeError(
                f"{Path(name).name} is gone from the history's folder, so this entry cannot be "
                "opened; delete it."
            )
        target = folder / kept[:12] / Path(name).name
        target.parent.mkdir(exist_ok=True)
        keep_copy(source, target)
        return target

    def _write(self, row: tuple[str, ...], entry: int | None) -> int:
        """A new entry, or an old one anew."""
        with self._index() as found:
            if entry is not None:
                renewed = "update moments set merge = ?, report = ?, sheet = ?, files = ?"
                if found.execute(f"{renewed} where id = ?", (*row, entry)).rowcount:
                    return entry
            fields = "(made, merge, report, sheet, files) values (?, ?, ?, ?, ?)"
            made = found.execute(f"insert into moments {fields}", (time.time(), *row))
            return made.lastrowid or 0

    def _tidy(self, files: Sequence[str]) -> None:
        """Remove those of the files that no entry has."""
        rows = self._rows("", (), "files")
        used = {name for (listed,) in rows for name in json.loads(listed)}
        for name in {*files} - used:
            (self._folder / name).unlink(missing_ok=True)

    def _rows(self, which: str, values: tuple[int | str, ...], fields: str = FIELDS) -> list[tuple]:
        if not self._begun:
            return []
        with self._index() as found:
            return found.execute(f"select {fields} from moments {which}", values).fetchall()

    @contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        with index(self._folder / "index.sqlite", TABLE, "The history's") as found:
            add_column(found, "moments", "pinned", "integer default 0")
            yield found


def made_room(gone: Sequence[Entry], size: int, most: int) -> str:
    """What happened so that the history has at most ``most`` MB, and whether it has; "" if nothing.

    ``size`` is in bytes, what it has now.
    """
    said = [_went(gone)] if gone else []
    if size > most * 2**20:
        said.append(
            "what is ticked “Keep” stays, as does what was just made: it has "
            f"{size / 2**20:.0f} MB now"
        )
    limit = f"The history is to have at most {most} MB here (max_history_mb)"
    return f"{limit}: {'; '.join(said)}." if said else ""


def _went(gone: Sequence[Entry]) -> str:
    listed = ", ".join(entry.title for entry in gone[:3])
    more = f" and {len(gone) - 3} more" if len(gone) > 3 else ""
    return f"its oldest entries went, {listed}{more}"
