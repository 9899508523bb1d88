"""Files of the library are packed into one, and taken out again.

The pack is there before the files go, and the file before the pack goes; entries change all at
once. Whatever happens in between, every entry has its file or its pack.
"""

from __future__ import annotations

from pathlib import Path

from app.schemas.pack import PackOffer
from app.storage.library_folder import LibraryEntry, LibraryFolder, rename_row, unsettle, write_row
from app.storage.sessions import keep_copy
from merging.errors import MergeError
from merging.io.files import file_sha256

CHANGED = "{} is no longer in the library as it was: pack again what is there."
NOT_PACKED = "This LoRA is in no pack of the library."


def replace_by_pack(folder: LibraryFolder, offer: PackOffer) -> None:
    """Put a pack in the place of the files in it; MergeError if one of them has changed."""
    pack = file_sha256(offer.path)
    with folder.changing():
        entries = {entry.sha256: entry for entry in folder.entries()}
        for member in offer.members:
            entry = entries.get(member.sha256)
            if entry is None or entry.pack or not folder.is_there(entry):
                raise MergeError(CHANGED.format(member.name))
        _bring(folder, offer.path, pack)
        with folder.index() as connection:
            unsettle(connection, _files_of(entries, offer))
            for member in offer.members:
                rename_row(connection, member.sha256, member.unpacked)
                row = {"pack": pack, "member": member.name, "error": member.error}
                write_row(connection, {"sha256": member.unpacked, **row})
        folder.settle()


def take_out(folder: LibraryFolder, sha256: str, path: Path) -> None:
    """Put a file in the place of what a pack has of a LoRA; MergeError if it is in none."""
    fresh = file_sha256(path)
    with folder.changing():
        entries = {entry.sha256: entry for entry in folder.entries()}
        if sha256 not in entries or not entries[sha256].pack:
            raise MergeError(NOT_PACKED)
        _bring(folder, path, fresh)
        with folder.index() as connection:
            unsettle(connection, [entries[sha256].pack])
            rename_row(connection, sha256, fresh)
            size = path.stat().st_size / 2**20
            row = {"pack": "", "member": "", "megabytes": size}
            write_row(connection, {"sha256": fresh, **row})
        folder.settle()


def _bring(folder: LibraryFolder, path: Path, sha256: str) -> None:
    """Copy a file into the folder, which is removed again unless an entry comes to need it."""
    with folder.index() as connection:
        unsettle(connection, [sha256])
    keep_copy(path, folder.file(sha256))


def _files_of(entries: dict[str, LibraryEntry], offer: PackOffer) -> list[str]:
    """The files that the pack replaces, with those of entries that the same LoRAs already had."""
    old = [hash for member in offer.members for hash in (member.sha256, member.unpacked)]
    return [entries[hash].pack or hash for hash in old if hash in entries]
