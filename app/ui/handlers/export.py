"""Downloads, custom files and the upload to the Hub: what the widgets do."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from app.schemas.export import Export, ExportOrder
from app.schemas.merge import FinishedMerge
from app.service import Studio
from app.ui.common import QUIET, Updates, Values, updates_or_problem
from app.ui.handlers.form import Form
from app.ui.html import fragments as markup
from app.ui.html.rank_chart import rank_chart, rank_choices
from app.ui.sections.export import ExportWidgets, Files
from app.ui.sections.pictures import PicturesSection
from merging.errors import MergeError

OPENED = {**QUIET, "concurrency_limit": None}


NOT_LOGGED_IN = "Nobody is logged in: use the button at the top of the page, then merge again."


@dataclass(frozen=True)
class ExportHandlers:
    """What happens when they are pressed."""

    studio: Studio
    form: Form
    views: PicturesSection
    files: Files
    asked: ExportWidgets

    def wire(self) -> None:
        """Opening draws the curve; both buttons do what they say."""
        asked, files = self.asked, self.files
        inputs = {self.form.session, self.form.merged, self.views.drawn, files.rank, files.form}
        inputs |= {asked.name, asked.dtype}
        made = {files.file, files.archive, files.said, files.command}
        asked.opened.expand(self.look, inputs, {files.rank, files.curve, files.said}, **OPENED)
        asked.make.click(self.make, inputs, made, **OPENED)
        hub = asked.hub
        pushing = inputs | {hub.repo, hub.private}
        if hub.token is None:
            hub.push.click(self.push_as_visitor, pushing, {hub.pushed}, **OPENED)
        else:
            hub.push.click(self.push, pushing | {hub.token}, {hub.pushed, hub.token}, **OPENED)

    def look(self, values: Values) -> Updates:
        """The curve, when somebody wants to see it."""
        merged: FinishedMerge | None = values[self.form.merged]
        if merged is None:
            return {self.files.curve: ""}

        def work() -> Updates:
            points = self.studio.curve(merged, values[self.asked.dtype])
            rank = gr.Dropdown(rank_choices(points), value="exact")
            return {self.files.rank: rank, self.files.curve: rank_chart(points)}

        return updates_or_problem(self.files.said, work)

    def make(self, values: Values) -> Updates:
        """Other precision, rank or name."""

        def work() -> Updates:
            order = self._order(values)
            return self.files.taken(order, self._taken(values, order))

        return updates_or_problem(self.files.said, work)

    def push(self, values: Values) -> Updates:
        """To the Hub; the token leaves the page with the press and is not kept anywhere."""
        token = self.asked.hub.token
        return {token: ""} | self._pushed(values, values[token])

    def push_as_visitor(self, values: Values, login: gr.OAuthToken | None) -> Updates:
        """To the Hub as who is logged in; Gradio hands the login over, and nothing keeps it."""
        if login is None:
            return {self.asked.hub.pushed: markup.problem_list([NOT_LOGGED_IN])}
        return self._pushed(values, login.token)

    def _pushed(self, values: Values, token: str) -> Updates:
        hub = self.asked.hub

        def work() -> Updates:
            made = self._taken(values, self._order(values))
            place = self.studio.push(made, values[hub.repo], token, values[hub.private])
            return {hub.pushed: markup.messages([f"It is at {place}."])}

        return updates_or_problem(hub.pushed, work)

    def _order(self, values: Values) -> ExportOrder:
        merged: FinishedMerge | None = values[self.form.merged]
        if merged is None:
            raise MergeError("There is nothing to take yet: merge first.")
        return ExportOrder(
            merged,
            tuple(values[self.views.drawn]),
            values[self.asked.name],
            values[self.files.form],
            values[self.asked.dtype],
            str(values[self.files.rank]),
        )

    def _taken(self, values: Values, order: ExportOrder) -> Export:
        return self.studio.take(values[self.form.session], order)
