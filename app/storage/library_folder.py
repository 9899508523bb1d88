"""The library's folder: files by their hash, an index of them, and changes that may be cut short.

A change names what it brings and what it leaves behind before it does so (the table unsettled).
The next change removes of these what no entry needs, should the program have ended in between.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.storage.sqlite import add_column, exclusive, index

OWNER = "The library's"
TABLE = """create table if not exists loras (
    sha256 text primary key, name text, base text, family text, megabytes real, trigger text,
    words text, captions text, used integer, origin text default ''
)"""
# What CLIP made of a file; of an older CLIP nothing is read.
LOOKS = """create table if not exists looks (
    sha256 text, clip text, data blob, primary key (sha256, clip)
)"""
# Other hashes that recipes may have of an entry: that of the file before it was packed, or of what
# another machine writes from the pack.
HASHES = """create table if not exists hashes (
    hash text primary key, sha256 text, earlier integer
)"""
UNSETTLED = "create table if not exists unsettled (file text primary key)"
LATER = {
    "origin": "text default ''",
    "thumbnail": "text default ''",
    "pack": "text default ''",
    "member": "text default ''",
    "error": "real default 0",
}
FIELDS = (
    "sha256, name, base, family, megabytes, trigger, words, captions, origin, pack, member, error"
)


@dataclass(frozen=True)
class LibraryEntry:
    """One LoRA of the library."""

    sha256: str  # of its file, or of the file that its pack gives
    name: str
    base: str
    family: str
    megabytes: float
    trigger: str
    words: tuple[str, ...]
    captions: tuple[str, ...]
    origin: str = ""  # owner/repo/file@commit where it is from the Hub
    pack: str = ""  # SHA-256 of the pack that it is in, "" for a file of its own
    member: str = ""  # its name there
    error: float = 0.0  # ‖Δ' − Δ‖ / ‖Δ‖ against the file that was packed

    @property
    def title(self) -> str:
        """The entry's title in lists."""
        return " · ".join(filter(None, [self.name, self.trigger, self.base, self._size]))

    @property
    def _size(self) -> str:
        if self.pack:
            return f"packed, error {self.error:.1%}"
        return f"{self.megabytes:.0f} MB" if self.megabytes >= 1 else "under 1 MB"


class LibraryFolder:
    """Files and an index, made with the first file; no connection stays open."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def begun(self) -> bool:
        """Whether there is an index."""
        return (self.path / "index.sqlite").is_file()

    def file(self, sha256: str) -> Path:
        """Where the file or the pack with this hash is."""
        return self.path / f"{sha256}.safetensors"

    @contextmanager
    def index(self) -> Iterator[sqlite3.Connection]:
        """A connection; what is done with it is done at its end, all or nothing."""
        with index(self.path / "index.sqlite", TABLE, OWNER) as connection:
            for column, kind in LATER.items():
                add_column(connection, "loras", column, kind)
            for table in (LOOKS, HASHES, UNSETTLED):
                connection.execute(table)
            yield connection

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Nobody else changes the folder meanwhile; what an earlier change left is removed."""
        with exclusive(self.path, OWNER):
            self.settle()
            yield

    def settle(self) -> None:
        """Remove what a change has brought or left, unless an entry needs it."""
        with self.index() as connection:
            files = {row[0] for row in connection.execute("select file from unsettled")}
            query = "select case pack when '' then sha256 else pack end from loras"
            needed = {row[0] for row in connection.execute(query)}
        if not files:
            return
        for name in files - needed:
            self.file(name).unlink(missing_ok=True)
        with self.index() as connection:
            connection.executemany("delete from unsettled where file = ?", _rows(files))

    def entries(self) -> list[LibraryEntry]:
        """Every entry, the one that was used last first."""
        if not self.begun:
            return []
        with self.index() as connection:
            rows = connection.execute(f"select {FIELDS} from loras order by used desc").fetchall()
        return list(map(_entry, rows))

    def is_there(self, entry: LibraryEntry) -> bool:
        """Whether its file, or its pack, was not deleted by hand."""
        return self.file(entry.pack or entry.sha256).is_file()


def unsettle(connection: sqlite3.Connection, files: Iterable[str]) -> None:
    """Note files that are to come or to go."""
    connection.executemany("insert or ignore into unsettled values (?)", _rows(files))


def write_row(connection: sqlite3.Connection, row: Mapping[str, Any]) -> None:
    """Write an entry's row; of one that is there, the columns in ``row`` alone."""
    marks = ", ".join("?" for _ in row)
    changes = ", ".join(f"{name} = excluded.{name}" for name in row)
    connection.execute(
        f"insert into loras ({', '.join(row)}) values ({marks}) "
        f"on conflict (sha256) do update set {changes}",
        tuple(row.values()),
    )


def rename_row(connection: sqlite3.Connection, old: str, new: str) -> None:
    """Give an entry another hash, and remember the one that it had."""
    if old == new:
        return
    for table in ("loras", "looks"):
        connection.execute(f"delete from {table} where sha256 = ?", (new,))
        connection.execute(f"update {table} set sha256 = ? where sha256 = ?", (new, old))
    connection.execute("delete from hashes where hash = ?", (new,))
    connection.execute("update hashes set sha256 = ?, earlier = 1 where sha256 = ?", (new, old))
    note_hash(connection, old, new, earlier=True)


def note_hash(connection: sqlite3.Connection, hash: str, sha256: str, earlier: bool) -> None:
    """Another hash of an entry: of its file before it was packed, or of what the pack gave."""
    query = "insert or replace into hashes values (?, ?, ?)"
    connection.execute(query, (hash, sha256, earlier))


def known_as(connection: sqlite3.Connection, sha256: str, earlier: bool = True) -> str:
    """The entry that has or had this hash; ``sha256`` itself where none is known.

    Without ``earlier``, the hash of a file that was packed is no hash of the pack's LoRA.
    """
    if connection.execute("select 1 from loras where sha256 = ?", (sha256,)).fetchone():
        return sha256
    query = "select sha256 from hashes where hash = ? and earlier <= ?"
    row = connection.execute(query, (sha256, earlier)).fetchone()
    return row[0] if row else sha256


def thumbnail_of_row(connection: sqlite3.Connection, sha256: str) -> str:
    """The preview picture of an entry, "" without one."""
    row = connection.execute("select thumbnail from loras where sha256 = ?", (sha256,)).fetchone()
    return row[0] if row else ""


def _entry(row: tuple) -> LibraryEntry:
    """The entry of a row with FIELDS."""
    values = dict(zip(FIELDS.split(", "), row, strict=True))
    lists = {name: tuple(json.loads(values[name])) for name in ("words", "captions")}
    return LibraryEntry(**{**values, **lists})


def _rows(values: Iterable[str]) -> list[tuple[str]]:
    return [(value,) for value in values]
