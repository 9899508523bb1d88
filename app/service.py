"""The service of the app: files, merges, pictures, exports. Knows `merging`, not Gradio."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.hub_upload import push
from app.jobs.held import held_jobs_of
from app.jobs.job_folder import new_files, with_folder
from app.jobs.job_thread import in_thread
from app.jobs.line import line_of
from app.jobs.metrics import JobMetrics
from app.jobs.queue import Executor, Step
from app.jobs.slots import slots_of
from app.jobs.timing.pace import pace_key
from app.limits import (
    check_batch,
    check_draw,
    check_file,
    check_here,
    check_merge,
    check_new,
    check_others,
    check_tune,
)
from app.schemas.batch import BatchOrder, BatchResult
from app.schemas.card import Card
from app.schemas.draw import ComparisonOrder, DrawItem, DrawOrder, OtherMerge, Picture
from app.schemas.export import Export, ExportOrder
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from app.schemas.pack import OpenedPack, PackOffer
from app.schemas.task import Kind, Order, Task
from app.schemas.tuning import TuneOrder, TuneResult
from app.settings.model import Settings
from app.storage.archive import Archive
from app.storage.room import room_of
from merging.errors import MergeError
from merging.io.hub import NamedFile, fetch_file
from merging.packs.pack_file import is_pack, read_pack_header

if TYPE_CHECKING:
    from app.jobs.conflicts import ConflictReport
    from app.jobs.engine import Engine
    from merging.analysis.rank_curve import CurvePoint
    from merging.analysis.summary import Summary
    from merging.retrieval.clip_reader import ClipReader

DrawEvent = Step | DrawItem
ComparisonEvent = DrawEvent | FinishedMerge
BatchEvent = Step | FinishedMerge | Picture | BatchResult
LAST_SECONDS = 3.0  # for jobs to stop when the program ends; between two layers or steps they do


class Studio(Archive):
    """The service behind the page and the API; visitors share nothing but the base models."""

    def __init__(self, settings: Settings, executor: Executor | None = None) -> None:
        super().__init__(settings, self._written)
        self.room = room_of(settings)
        line = line_of(settings)
        self._loaded_engine: Engine | None = None
        self._engine_lock = threading.Lock()
        slots = slots_of(settings, lambda: self._engine)
        self.executor = executor or Executor(slots, line, settings.max_minutes)
        self.metrics = JobMetrics(line, self.room)
        self.held = held_jobs_of(settings)

    @property
    def _engine(self) -> Engine:
        """Created when first needed, since its imports take seconds."""
        from app.jobs import engine

        with self._engine_lock:
            self._loaded_engine = self._loaded_engine or engine.Engine(self.settings)
            return self._loaded_engine

    def open_session(self, client: str = "") -> str:
        """Open a visit of a client, which is an address or a login; returns its token."""
        return self.store.open(client)

    def others(self, session: str, entries: Sequence[int], base: str) -> tuple[OtherMerge, ...]:
        """Earlier merges from the history, to draw with this base model beside another merge.

        MergeError if one of them is gone or was made for another base model.
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

    def add(
        self, session: str, path: Path, present: list[Card], name: str = "", origin: str = ""
    ) -> Card:
        """Add a file to the visit; MergeError if it cannot be used.

        ``name`` is the file's name, if ``path`` has another one; ``origin`` is its place on the
        Hub, if it is from there.
        """
        check_file(self.settings, path, name)
        copy = self.store.keep_copy(session, path)
        try:
            fresh = replace(self._engine.card(copy, name or path.name), origin=origin)
            check_new(self.settings, fresh, present)
        except Exception:
            shutil.rmtree(copy.parent)
            raise
        return fresh

    def open_pack(self, session: str, path: Path) -> OpenedPack | None:
        """Take a pack into the visit; None for a file that is none."""
        check_file(self.settings, path)
        if not is_pack(path):
            return None
        copy = self.store.keep_copy(session, path)
        loras = read_pack_header(copy, path.name).loras
        return OpenedPack(copy, path.name, tuple((lora.name, lora.error) for lora in loras))

    def unpack(self, session: str, pack: OpenedPack, name: str) -> NamedFile:
        """One LoRA of a pack as a file of the visit; MergeError if that fails."""
        path = self._written(session, pack.path, name, pack.name)
        return NamedFile(path, f"{name}.safetensors")

    def _written(self, session: str, pack: Path, name: str, called: str) -> Path:
        """A LoRA of a pack, written into the visit; MergeError or NoRoom if that fails."""
        client = self.store.client(session)
        self.room.check(client)
        with new_files(self.store.new_folder(session), partial(self.room.note, client)) as folder:
            return self._engine.unpack(pack, name, folder, called)

    def offer_pack(
        self, session: str, hashes: Sequence[str], keep: float
    ) -> Generator[float | PackOffer, None, None]:
        """Pack files of the library into the visit: yields the share that is done, and the pack.

        MergeError if that cannot be done. Closing the generator stops the work.
        """
        client, library = self.store.client(session), self.library(session)
        self.room.check(client)
        entries = list(map(library.entry, hashes))
        if packed := [entry.name for entry in entries if entry.pack]:
            raise MergeError(f"{packed[0]} is in a pack already: unpack it first, or untick it.")
        files = {entry.sha256: library.file(entry.sha256) for entry in entries}
        with new_files(self.store.new_folder(session), partial(self.room.note, client)) as folder:
            yield from in_thread(partial(self._engine.pack_files, files, keep, folder))

    def take_out(self, session: str, sha256: str) -> None:
        """Give a packed LoRA of the library a file of its own again."""
        self.library(session).take_out(sha256, self.lora(session, sha256).path)

    def fetch(self, session: str, place: str) -> NamedFile:
        """Download a file from the Hub, at a fixed commit; MergeError if that fails.

        At home it goes to the Hub's cache, with the user's token; in a public app into the visit,
        and only public files.
        """
        home = self.settings.home
        return fetch_file(
            place,
            cache=None if home else self.store.new_folder(session),
            token=None if self.settings.free_base else False,
            max_bytes=self.settings.max_mb * 2**20,
        )

    def clip_reader(self) -> ClipReader:
        """The CLIP that compares prompts with the library's LoRAs, loaded when first needed."""
        return self._engine.clip_reader()

    def meetings(self, cards: list[Card], picks: tuple[SelectedFile, ...]) -> ConflictReport:
        """Where the LoRAs get in each other's way; needs no base model."""
        return self._engine.meetings.of(cards, picks)

    def inspect(self, path: Path | None) -> Summary:
        """The summary of a file, as on the command line; MergeError if it is no adapter."""
        if path is None:
            raise MergeError("Send a .safetensors file.")
        check_file(self.settings, path)
        return self._engine.summary(path)

    def _check_visit(self, session: str) -> None:
        """MergeError for an ended visit, before its files are missed; a fresh page has none."""
        if session:
            self.store.folder(session)

    def merge(self, session: str, order: MergeOrder) -> Generator[Step | FinishedMerge, None, None]:
        """Merge: yields Steps and the result. Closing the generator stops the work."""
        self._check_visit(session)
        check_merge(self.settings, order)
        return self._run(session, "merge", order)

    def merge_and_draw(
        self, session: str, order: ComparisonOrder
    ) -> Generator[ComparisonEvent, None, None]:
        """Draw what needs no merge, merge, and draw the merge beside it, as one job."""
        self._check_visit(session)
        check_merge(self.settings, order.merge)
        check_draw(self.settings, order.scene)
        return self._run(session, "merge and draw", order)

    def batch(self, session: str, order: BatchOrder) -> Generator[BatchEvent, None, None]:
        """Several merges into one zip: yields Steps, every merge, and the BatchResult."""
        self._check_visit(session)
        check_batch(self.settings, order)
        return self._run(session, "batch", order)

    def tune(self, session: str, order: TuneOrder) -> Generator[Step | TuneResult, None, None]:
        """Search for strengths: yields Steps and the result."""
        self._check_visit(session)
        check_tune(self.settings, order)
        return self._run(session, "tune", order)

    def draw(self, session: str, order: DrawOrder) -> Generator[DrawEvent, None, None]:
        """Draw the comparison from the same noise: yields Steps and pictures."""
        self._check_visit(session)
        check_draw(self.settings, order)
        return self._run(session, "draw", order)

    def _run(self, session: str, kind: Kind, order: Order) -> Generator[Any, None, None]:
        """A job in a folder of its own, which is removed if the job ends without a result.

        NoRoom, before anything else, if the client's files leave no room for it.
        """
        client = self.store.client(session)
        self.room.check(client)
        folder = self.store.new_folder(session)
        task = Task(kind, order, folder)
        items = self.metrics.counted(kind, self.executor.run(session, task, client))
        return with_folder(folder, items, partial(self.room.note, client))

    def seconds(self, order: ComparisonOrder | DrawOrder) -> float | None:
        """How long an order will take, about; None before anything was measured here."""
        return self.executor.pace.seconds(pace_key(order), self._engine.stages(order))

    def usual_seeds(self, base: str) -> int:
        """How many seeds of a prompt are drawn with a base model unless the visitor says so."""
        return self._engine.usual_seeds(base)

    def curve(self, merged: FinishedMerge, dtype: str) -> tuple[CurvePoint, ...]:
        """The merge's energy and size at smaller ranks."""
        return self._engine.curve(merged, dtype)

    def take(self, session: str, order: ExportOrder) -> Export:
        """Export the merge: its file, and a zip with everything."""
        check_here(order.merged.order.picks)
        client = self.store.client(session)
        self.room.check(client)
        with new_files(self.store.new_folder(session), partial(self.room.note, client)) as folder:
            return self._engine.take(order, folder)

    def push(self, export: Export, repo: str, token: str, private: bool) -> str:
        """Upload an export to the Hub, with a token that is not stored; returns the address."""
        return push(export.folder, repo, token, private)

    def stop(self, session: str) -> bool:
        """Stop the visit's job, running or in line; False if it has none."""
        return self.executor.stop(session)

    def close(self) -> None:
        """Stop all jobs and wait for their end; called once, before the program ends."""
        self.executor.close(LAST_SECONDS)

    def warm_up(self) -> None:
        """Load the base models in the background, so that the first visitor need not wait."""
        threading.Thread(target=self.executor.warm_up, name="iteris-warm-up", daemon=True).start()
