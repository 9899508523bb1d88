"""What the app can do: look at files, merge them, draw pictures. Knows merging, not Gradio."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from app.examples import bundled
from app.hub_upload import push
from app.jobs.queue import LocalExecutor, Step
from app.limits import (
    check_batch,
    check_draw,
    check_file,
    check_here,
    check_merge,
    check_new,
    check_others,
)
from app.schemas.batch import BatchOrder, BatchResult
from app.schemas.card import Card
from app.schemas.draw import DrawOrder, MissingScores, OtherMerge, Picture
from app.schemas.export import Export, ExportOrder
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from app.settings.model import Settings
from app.storage.history import History, OpenedEntry, made_room
from app.storage.library import Library
from app.storage.sessions import Store
from merging.errors import Cancelled, MergeError
from merging.io.files import peft_config_path
from merging.io.hub import NamedFile, fetch_file

if TYPE_CHECKING:
    from app.jobs.conflicts import ConflictReport
    from app.jobs.engine import Engine
    from merging.analysis.rank_curve import CurvePoint
    from merging.analysis.summary import Summary

log = logging.getLogger(__name__)
Drawn = Step | Picture | MissingScores
Tried = Step | FinishedMerge | BatchResult

LAST_SECONDS = 60.0  # a base that is being loaded cannot be stopped, only waited for


class Studio:
    """The service behind the page and the API; visitors share nothing but the base models."""

    def __init__(self, settings: Settings, executor: LocalExecutor | None = None) -> None:
        self.settings = settings
        self.store = Store(settings.work / "sessions", 3600 * settings.keep_hours)
        self._executor = executor or LocalExecutor(settings.max_waiting, settings.max_minutes)
        self._made: Engine | None = None
        self._making = threading.Lock()

    @property
    def _engine(self) -> Engine:
        """Made when something is first wanted of it: its imports take seconds."""
        from app.jobs import engine

        with self._making:
            self._made = self._made or engine.Engine(self.settings)
            return self._made

    def open_session(self) -> str:
        """A new visit: its token, to be kept in the visitor's state."""
        return self.store.open()

    def library(self, session: str) -> Library:
        """What was added before: on this machine, or in a public app in this visit."""
        home = self.settings.home
        return Library((home or self.store.folder(session)) / "library")

    def history(self, session: str) -> History:
        """Merges and pictures of before: on this machine, or in a public app of this visit."""
        home = self.settings.home
        return History((home or self.store.folder(session)) / "history")

    def begun(self, session: str) -> bool:
        """Whether there can be a library or a history: at home, or once a visit is open."""
        return bool(self.settings.home or self.store.is_open(session))

    def keep(self, session: str, found: Card) -> str:
        """Put a file of the visit into the library; a sentence if that cannot be."""
        if peft_config_path(found.path).is_file():
            return (
                f"{found.name} is in use, but not kept in the library: half of it lies in a second "
                f"file, {peft_config_path(found.path).name}. Fetch it again when you need it."
            )
        try:
            self.library(session).keep(found)
        except (MergeError, OSError) as error:
            log.warning("the library: %s", error)
            reason = error.strerror if isinstance(error, OSError) else str(error)
            return f"{found.name} is in use, but could not be kept in the library ({reason})."
        return ""

    def remember(
        self,
        session: str,
        merged: FinishedMerge,
        scene: DrawOrder | None = None,
        pictures: Sequence[Picture] = (),
        entry: int | None = None,
    ) -> tuple[int | None, str]:
        """Put a merge, or the pictures of it, into the history: its entry, and what is to be said.

        That is why it has none, or which older ones had to go for it. ``entry`` is the one that
        gets the pictures; without it there is a new one.
        """
        most = self.settings.max_history_mb
        try:
            history = self.history(session)
            entry = history.keep(merged, scene, pictures, entry)
            gone = history.make_room(most * 2**20, entry)
            return entry, made_room(gone, history.size()[1], most)
        except (MergeError, OSError) as error:
            log.warning("the history: %s", error)
            reason = error.strerror if isinstance(error, OSError) else str(error)
            return entry, f"This is in use, but could not be kept in the history ({reason})."

    def recall(self, session: str, entry: int) -> OpenedEntry:
        """An entry of the history, its files in the visit; a LoRA that has gone has no file."""
        folder = self.store.new_folder(session)

        def found(sha256: str) -> Path:
            return self._lora(session, sha256) or folder / "gone"

        return self.history(session).open(entry, folder, found)

    def others(self, session: str, entries: Sequence[int], base: str) -> tuple[OtherMerge, ...]:
        """Merges of the history, to be drawn with this base beside another one.

        MergeError if one of them is gone or was made for another base.
        """
        others = tuple(self._other(session, entry) for entry in entries)
        check_others(self.settings, others, base)
        return others

    def _other(self, session: str, entry: int) -> OtherMerge:
        try:
            title = self.history(session).entry(entry).name
            merged = self.recall(session, entry).merged
        except MergeError as error:
            raise MergeError(f"The other merge no. {entry} cannot be drawn: {error}") from error
        return OtherMerge(entry, title, merged.drawn_with, merged.order.base, merged.words)

    def _lora(self, session: str, sha256: str) -> Path | None:
        """The file with these bytes: of the library, or bundled."""
        try:
            return self.library(session).file(sha256).path
        except MergeError:
            return bundled(sha256)

    def add(
        self, session: str, path: Path, present: list[Card], name: str = "", origin: str = ""
    ) -> Card:
        """Take a file into the visit; MergeError says what is wrong with it.

        ``name`` is the file's own, where ``path`` does not have it; ``origin`` is its place on the
        Hub, if that is where it is from.
        """
        check_file(self.settings, path)
        own = self.store.keep_copy(session, path)
        try:
            fresh = replace(self._engine.card(own, name or path.name), origin=origin)
            check_new(self.settings, fresh, present)
        except MergeError:
            shutil.rmtree(own.parent)
            raise
        return fresh

    def fetch(self, session: str, place: str) -> NamedFile:
        """A file from the Hub, pinned; MergeError if it cannot be had.

        At home it goes to the Hub's own cache, with the person's own rights; in a public app into
        the visit, and only what anyone may see.
        """
        home = self.settings.home
        return fetch_file(
            place,
            cache=None if home else self.store.new_folder(session),
            token=None if self.settings.free_base else False,
            max_bytes=self.settings.max_mb * 2**20,
        )

    def meetings(self, cards: list[Card], picks: tuple[SelectedFile, ...]) -> ConflictReport:
        """Where the LoRAs get in each other's way, before any merge; no base model is needed."""
        return self._engine.meetings.of(cards, picks)

    def inspect(self, path: Path | None) -> Summary:
        """What a file is, as the command line tells it; MergeError if it is none of ours."""
        if path is None:
            raise MergeError("Send a .safetensors file.")
        check_file(self.settings, path)
        return self._engine.summary(path)

    def merge(self, session: str, order: MergeOrder) -> Generator[Step | FinishedMerge, None, None]:
        """Merge: Steps, and among the last of them the result. Closing it stops the work."""
        self.store.folder(session)  # an ended visit is said before its missing files
        check_merge(self.settings, order)
        work = self._engine.merging(order, self.store.new_folder(session))
        return cast(Generator[Step | FinishedMerge, None, None], self._executor.run(session, work))

    def batch(self, session: str, order: BatchOrder) -> Generator[Tried, None, None]:
        """Several merges into one zip: Steps, every merge, and at the end what was made."""
        self.store.folder(session)
        check_batch(self.settings, order)
        work = self._engine.batching(order, self.store.new_folder(session))
        return cast(Generator[Tried, None, None], self._executor.run(session, work))

    def draw(self, session: str, order: DrawOrder) -> Generator[Drawn, None, None]:
        """Draw the comparison, picture by picture, all from the same noise."""
        self.store.folder(session)
        check_draw(self.settings, order)
        work = self._engine.drawing(order, self.store.new_folder(session))
        return cast(Generator[Drawn, None, None], self._executor.run(session, work))

    def curve(self, merged: FinishedMerge, dtype: str) -> tuple[CurvePoint, ...]:
        """What the merge would lose at smaller ranks, and its size then."""
        return self._engine.curve(merged, dtype)

    def take(self, session: str, order: ExportOrder) -> Export:
        """The merge as files to take home, and all of it in one archive."""
        check_here(order.merged.order.picks)
        return self._engine.take(order, self.store.new_folder(session))

    def push(self, made: Export, repo: str, token: str, private: bool) -> str:
        """All of it to the Hub, with a token that is not kept; returns its address."""
        return push(made.folder, repo, token, private)

    def stop(self, session: str) -> bool:
        """Stop the visit's job, at work or in line; False if it has none."""
        return self._executor.stop(session)

    def close(self) -> None:
        """Stop what runs and wait for its end; called once, before the program ends."""
        self._executor.close(LAST_SECONDS)

    def warm_up(self) -> None:
        """Load the base in the background, so that the first visitor need not wait for it."""

        def body() -> None:
            try:
                for _ in self._executor.run("warm-up", lambda *given: self._engine.load(*given)):
                    pass
            except MergeError as error:
                log.warning("%s", error)
            except Cancelled:
                log.debug("the program ended before the base was there")

        threading.Thread(target=body, name="iteris-warm-up", daemon=True).start()
