"""What visits keep: the library and the history of each of them, or at home of the machine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from app.examples import bundled
from app.schemas.card import Card
from app.schemas.draw import DrawOrder, Picture
from app.schemas.merge import FinishedMerge
from app.settings.model import Settings
from app.storage.history import History, OpenedEntry, room_note
from app.storage.library import Library
from app.storage.sessions import Store
from merging.errors import MergeError
from merging.io.files import file_sha256, peft_config_path
from merging.io.hub import NamedFile
from merging.packs.pack_file import packed_place

log = logging.getLogger(__name__)
Unpack = Callable[[str, Path, str, str], Path]  # visit, pack, name in it, what to call the pack
NOT_AS_IT_WAS = (
    "{} was packed in your library, with a relative error of {:.1%}, and is not what this merge "
    "was made of: merged again, it gives other bytes. Add its own file again for the same ones."
)


class Archive:
    """Libraries and histories, in the folder of the settings or in those of the visits."""

    def __init__(self, settings: Settings, unpack: Unpack) -> None:
        """``unpack`` writes a LoRA of a pack into a visit."""
        self.settings = settings
        self._unpack = unpack
        self.store = Store(settings.work / "sessions", 3600 * settings.keep_hours)

    def library(self, session: str) -> Library:
        """The library: of this machine, or in a public app of this visit."""
        home = self.settings.home
        return Library((home or self.store.folder(session)) / "library")

    def history(self, session: str) -> History:
        """The history: of this machine, or in a public app of this visit."""
        home = self.settings.home
        return History((home or self.store.folder(session)) / "history")

    def begun(self, session: str) -> bool:
        """Whether there is a place for library and history: at home, or once a visit is open."""
        return bool(self.settings.home or self.store.is_open(session))

    def keep(self, session: str, card: Card) -> str:
        """Put a file of the visit into the library; returns a note if that fails."""
        if peft_config_path(card.path).is_file():
            return (
                f"{card.name} is in use, but not stored in the library: a part of it is in a "
                f"second file, {peft_config_path(card.path).name}. Fetch it again when you need it."
            )
        try:
            self.library(session).keep(card)
        except (MergeError, OSError) as error:
            reason = _logged_reason("the library", error)
            return f"{card.name} is in use, but could not be stored in the library ({reason})."
        return ""

    def remember(
        self,
        session: str,
        merged: FinishedMerge,
        scene: DrawOrder | None = None,
        pictures: Sequence[Picture] = (),
        entry: int | None = None,
    ) -> tuple[int | None, str]:
        """Save a merge, or pictures of it, in the history; returns the entry and a note.

        The note says why saving failed, or which old entries were deleted to make room. ``entry``
        gets the pictures; without it there is a new entry.
        """
        most = self.settings.max_history_mb
        try:
            history = self.history(session)
            entry = history.keep(merged, scene, pictures, entry)
            gone = history.make_room(most * 2**20, entry)
            return entry, room_note(gone, history.size()[1], most)
        except (MergeError, OSError) as error:
            reason = _logged_reason("the history", error)
            return entry, f"This could not be saved in the history ({reason})."

    def recall(self, session: str, entry: int) -> OpenedEntry:
        """An entry of the history, with its files in the visit; deleted LoRAs have no file.

        Its notes name the LoRAs that have other bytes now, since they were packed.
        """
        folder, notes = self.store.new_folder(session), list[str]()

        def locate_lora(sha256: str) -> Path:
            return self._located(session, sha256, notes) or folder / "gone"

        opened = self.history(session).open(entry, folder, locate_lora)
        return replace(opened, notes=tuple(notes))

    def lora(self, session: str, sha256: str) -> NamedFile:
        """A LoRA of the library as a file, of a pack in the visit; MergeError if it is gone."""
        library = self.library(session)
        file = library.file(sha256)
        if not (place := packed_place(file.path)):
            return file
        path = self._unpack(session, *place, "the library's pack")
        if (written := file_sha256(path)) != library.entry(sha256).sha256:
            library.note_hash(library.entry(sha256).sha256, written)
        return replace(file, path=path)

    def _located(self, session: str, sha256: str, notes: list[str]) -> Path | None:
        """The LoRA with this hash, from the library or bundled; None if there is none.

        Else what became of it in a pack, with a note.
        """
        library = self.library(session)
        try:
            library.entry(sha256, earlier=False)
        except MergeError:
            if path := bundled(sha256):
                return path
        try:
            entry, path = library.entry(sha256), self.lora(session, sha256).path
        except MergeError:
            return None
        if file_sha256(path) != sha256:
            notes.append(NOT_AS_IT_WAS.format(entry.name, entry.error))
        return path


def _logged_reason(place: str, error: MergeError | OSError) -> str:
    """Why something could not be stored there."""
    log.warning("%s: %s", place, error)
    return str(error.strerror if isinstance(error, OSError) else error)
