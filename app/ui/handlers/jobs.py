"""Merging and drawing: widgets → order → service → widgets, and nothing else.

Handlers are generators that pass on the steps of the service. When Gradio closes one because the
visitor left, “Merge and draw” and “Draw again” go on for a while, for a page that is loaded again;
any other job is stopped, and its end waited for.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app.jobs.held import HeldJob
from app.jobs.queue import Step
from app.limits import check_draw, check_ready
from app.schemas.draw import (
    ComparisonOrder,
    DrawOrder,
    MissingScores,
    MissingVerdict,
    OtherMerge,
    Picture,
    Preview,
)
from app.schemas.merge import FinishedMerge, MergeOrder
from app.service import Studio
from app.shell_commands import draw_commands
from app.storage.history_entry import HistoryEntry
from app.ui.common import Updates, Values, error_sentence, logged_sentence
from app.ui.handlers.base_model import problems_html
from app.ui.handlers.form import Form
from app.ui.html import fragments as markup
from app.ui.sections.dock import ANOTHER, DRAW, FIRST, MERGE, Dock, Results
from app.ui.sections.draw_form import MAX_OTHERS
from merging.errors import Cancelled, MergeError

JobUpdates = Generator[Updates, None, None]
Shown = dict[tuple[str, str, str, int], Picture]  # by column, title, prompt and seed
STOPPED, STAYS = "Stopped. Nothing was changed.", "Stopped. What was finished stays."


@dataclass(frozen=True)
class Redrawing:
    """Pictures of a merge that there is already."""

    merged: FinishedMerge
    scene: DrawOrder


@dataclass(frozen=True)
class Handlers:
    """The behaviour of the dock: merging, drawing, and what is missing for that."""

    studio: Studio
    form: Form
    results: Results
    dock: Dock
    history_problem: gr.HTML  # why a result was not saved in the history

    @property
    def message_outputs(self) -> set[Any]:
        """The widgets for messages of any job."""
        return {self.history_problem, *self.dock.outputs}

    @property
    def outputs(self) -> set[Any]:
        """Everything that a merge or a drawing may change."""
        form = self.form
        widgets = {form.merged, form.suggested, form.draw_form.prompt}
        return widgets | self.message_outputs | self.results.outputs

    def press(self, values: Values) -> Iterator[Updates]:
        """Merge and draw, or only draw if nothing of the merge has changed."""
        yield from self.run_job(self._press(values), "Getting ready")

    def look(self, values: Values) -> Updates:
        """Show what the button will do, or what is missing; nothing while a job runs."""
        if self.studio.executor.has(values[self.form.session]):
            return {self.dock.press: gr.skip()}
        label = MERGE
        try:
            label = self._label(values)
            order = self.form.merge_order(values)
            check_ready(self.studio.settings, order, values[self.form.cards])
        except MergeError as error:
            return self.dock.missing(label, error_sentence(error))
        label = DRAW if self._is_merged(values, order) else MERGE
        return self.dock.ready(label, self._seconds(values, order))

    def _seconds(self, values: Values, order: MergeOrder) -> float | None:
        """How long the next job will take, about; None where that cannot be told."""
        scene = self.form.draw_order(values, order, self.form.prompt(values, order.picks))
        try:
            check_draw(self.studio.settings, scene)
            if self._is_merged(values, order):
                return self.studio.seconds(scene)
            return self.studio.seconds(ComparisonOrder(order, scene))
        except MergeError:
            return None

    def change(self, values: Values) -> Updates:
        """The same after a change, which also clears what the last job left in the dock."""
        busy = self.studio.executor.has(values[self.form.session])
        return ({} if busy else {self.dock.status: ""}) | self.look(values)

    def _label(self, values: Values) -> str:
        """What the button says while something is missing."""
        count = sum(pick.on and not pick.is_word for pick in self.form.picks(values))
        return (FIRST, ANOTHER)[count] if count < 2 else MERGE

    def _is_merged(self, values: Values, order: MergeOrder) -> bool:
        merged: FinishedMerge | None = values[self.form.merged]
        return merged is not None and merged.order == order

    def _press(self, values: Values) -> JobUpdates:
        drawn = self._is_merged(values, self.form.merge_order(values))
        yield from self._draw(values) if drawn else self._merge(values)

    def stop(self, values: Values) -> Updates:
        """Ask the job to stop; its own handler shows when it has ended."""
        self.studio.stop(values[self.form.session])
        return self.dock.stopping()

    def _merge(self, values: Values) -> JobUpdates:
        order = self.form.merge_order(values)
        session = values[self.form.session]
        others = self._others(values, order)  # first, so that an error comes before the merge
        prompt = self.form.prompt(values, order.picks)
        scene = self.form.draw_order(values, order, prompt)
        if written := self.form.prompt_update(values, prompt):
            yield written
        yield from self.run_comparison(
            session, ComparisonOrder(order, replace(scene, others=others))
        )

    def _draw(self, values: Values) -> JobUpdates:
        merged = self.form.last_merge(values)
        prompt = values[self.form.draw_form.prompt]
        scene = self.form.draw_order(values, merged.order, prompt, merged)
        scene = replace(scene, others=self._others(values, merged.order))
        yield from self.run_drawing(values[self.form.session], merged, scene)

    def keep_seed(self, event: gr.EventData) -> Updates:
        """Draw with the seed of a picture from now on."""
        seed = int(event.choice)
        note = f"Seed {seed} is kept: what you draw next begins with it."
        return {
            self.form.draw_form.seed: seed,
            self.form.draw_form.count: 1,
            self.dock.status: markup.outcome("done", note),
        }

    def offer_merges(self, values: Values) -> Updates:
        """Update the list of other merges for the comparison."""
        form, session = self.form, values[self.form.session]
        merges: list[HistoryEntry] = []
        if self.studio.begun(session):
            merges = self.studio.history(session).merges(MAX_OTHERS, values[form.merged])
        return form.draw_form.other_merges_update(merges, values[form.draw_form.others])

    def _others(self, values: Values, order: MergeOrder) -> tuple[OtherMerge, ...]:
        chosen = values[self.form.draw_form.others]
        return self.studio.others(values[self.form.session], chosen, order.base)

    def run_comparison(self, session: str, order: ComparisonOrder) -> JobUpdates:
        """Draw what needs no merge, merge, draw the merge, and save all of it in the history."""
        items = self.studio.merge_and_draw(session, order)
        yield self.results.views.clear()
        yield from self._follow(session, self.studio.held.begin(session, order, items))

    def run_drawing(
        self, session: str, merged: FinishedMerge, order: DrawOrder, entry: int | None = None
    ) -> JobUpdates:
        """Draw a comparison and save it in the history: in ``entry``, or in a new entry."""
        items = self.studio.draw(session, order)
        job = self.studio.held.begin(session, Redrawing(merged, order), items)
        job.entry = entry
        yield self.results.views.clear_verdict()
        yield from self._follow(session, job)

    def rejoin(self, values: Values) -> Iterator[Updates]:
        """Go on with the job that this visit has, on a page that was loaded again."""
        session = values[self.form.session]
        yield {self.dock.press: gr.skip()}  # without any, Gradio empties all widgets
        job = self.studio.held.of(session)
        if job is not None:
            yield from self.run_job(self._follow(session, job), "Coming back to your job")

    def _follow(self, session: str, job: HeldJob) -> JobUpdates:
        """Show what the job yields, and save its results in the history."""
        order, views = job.order, self.results.views
        assert isinstance(order, ComparisonOrder | Redrawing)
        scene, drawn = order.scene, Shown()
        merged = order.merged if isinstance(order, Redrawing) else None
        yield views.show_score_help(bool(scene.references))
        with closing(self.studio.held.follow(session, job)) as items:
            for item in items:
                if isinstance(item, FinishedMerge) and isinstance(order, ComparisonOrder):
                    merged, scene = item, order.drawn(item)
                    yield {self.form.merged: merged, **self.results.files.show_merge(merged)}
                    job.entry = yield from self.add_to_history(session, merged, entry=job.entry)
                elif isinstance(item, Picture | Preview):
                    drawn = with_picture(drawn, item)
                    shown = scene.arranged([*drawn.values()])
                    yield views.show_pictures(shown, waiting="merged" in scene.columns)
                else:
                    yield self._note(item)
        if merged is None:
            raise RuntimeError("a merge ended without a result")
        pictures = scene.arranged([*drawn.values()])
        yield views.show_pictures(pictures) | views.show_views(pictures, draw_commands(scene))
        yield from self.add_to_history(session, merged, scene, pictures, job.entry)

    def _note(self, item: object) -> Updates:
        """What comes beside pictures and merges: progress, and what could not be measured."""
        if isinstance(item, MissingScores | MissingVerdict):
            return self.results.views.show_missing(item)
        assert isinstance(item, Step)
        return {self.dock.status: markup.progress(item)}

    def run_merge(self, session: str, order: MergeOrder) -> Generator[Updates, None, FinishedMerge]:
        """Merge and show the files; the pictures of the last merge are removed."""
        merged: FinishedMerge | None = None
        with closing(self.studio.merge(session, order)) as items:
            for item in items:
                if isinstance(item, FinishedMerge):
                    merged = item
                else:
                    yield self._note(item)
        if merged is None:
            raise RuntimeError("a merge ended without a result")
        yield {
            self.form.merged: merged,
            **self.results.files.show_merge(merged),
            **self.results.views.clear(),
        }
        return merged

    def add_to_history(
        self,
        session: str,
        merged: FinishedMerge,
        scene: DrawOrder | None = None,
        pictures: Sequence[Picture] = (),
        entry: int | None = None,
    ) -> Generator[Updates, None, int | None]:
        """Save a result in the history, or show why not; returns the id of the entry."""
        entry, problem = self.studio.remember(session, merged, scene, pictures, entry)
        if problem:
            yield {self.history_problem: problems_html([problem])}
        return entry

    def run_job(
        self, updates: JobUpdates, start: str, done: str = "", lasting: Collection[Any] = ()
    ) -> Iterator[Updates]:
        """Run a job: buttons off, its updates, and the outcome whatever happens.

        ``done`` is the message on success; ``lasting`` are widgets that the job changes beside
        the results.

        The last update repeats all results: on a busy machine updates come in bursts, and
        Gradio's page may then let one without pictures undo one with pictures.
        """
        yield self.dock.busy(markup.progress(Step(0.0, start))) | {
            self.history_problem: problems_html([])
        }
        results: Updates = {}
        repeated = {*self.results.outputs, self.history_problem, *lasting}
        try:
            with closing(updates):
                for update in updates:
                    results |= {widget: update[widget] for widget in update.keys() & repeated}
                    yield update
        except Cancelled:
            outcome = markup.outcome("stopped", STAYS if results else STOPPED)
        except Exception as error:  # noqa: BLE001 -- it is logged
            outcome = markup.outcome("failed", logged_sentence(error, "a job failed"))
        else:
            outcome = markup.outcome("done", done or "Done.")
        yield results | self.dock.idle(outcome)


def with_picture(shown: Shown, item: Picture | Preview) -> Shown:
    """The pictures with one more, which takes the place of its previews."""
    picture = item.picture if isinstance(item, Preview) else item
    return shown | {(picture.column, picture.title, picture.prompt, picture.seed): picture}
