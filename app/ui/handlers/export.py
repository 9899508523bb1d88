"""Take it: other ranks, precisions and formats, and the upload to the Hub."""

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

EVENT = {**QUIET, "concurrency_limit": None}
NOT_LOGGED_IN = "Nobody is logged in: use the button at the top of the page, then merge again."


@dataclass(frozen=True)
class ExportHandlers:
    """The behaviour of the downloads."""

    studio: Studio
    form: Form
    views: PicturesSection
    files: Files
    export_form: ExportWidgets

    def wire(self) -> None:
        """Connect the section and both buttons."""
        export_form, files = self.export_form, self.files
        inputs = {self.form.session, self.form.merged, self.views.drawn, files.rank, files.form}
        inputs |= {export_form.name, export_form.dtype}
        made = {files.file, files.archive, files.message, files.command}
        export_form.section.expand(
            self.look, inputs, {files.rank, files.curve, files.message}, **EVENT
        )
        export_form.make.click(self.make, inputs, made, **EVENT)
        hub = export_form.hub
        hub_inputs = inputs | {hub.repo, hub.private}
        if hub.token is None:
            hub.push.click(self.push_as_visitor, hub_inputs, {hub.pushed}, **EVENT)
        else:
            hub.push.click(self.push, hub_inputs | {hub.token}, {hub.pushed, hub.token}, **EVENT)

    def look(self, values: Values) -> Updates:
        """Draw the rank curve, when the section opens."""
        merged: FinishedMerge | None = values[self.form.merged]
        if merged is None:
            return {self.files.curve: ""}

        def work() -> Updates:
            points = self.studio.curve(merged, values[self.export_form.dtype])
            rank = gr.Dropdown(rank_choices(points), value="exact")
            return {self.files.rank: rank, self.files.curve: rank_chart(points)}

        return updates_or_problem(self.files.message, work)

    def make(self, values: Values) -> Updates:
        """Write the files."""

        def work() -> Updates:
            order = self._order(values)
            return self.files.show_export(order, self._export(values, order))

        return updates_or_problem(self.files.message, work)

    def push(self, values: Values) -> Updates:
        """Upload with a token, which is removed from the page and not stored."""
        token = self.export_form.hub.token
        return {token: ""} | self._push(values, values[token])

    def push_as_visitor(self, values: Values, login: gr.OAuthToken | None) -> Updates:
        """Upload with the visitor's login, which Gradio passes in and which is not stored."""
        if login is None:
            return {self.export_form.hub.pushed: markup.problem_list([NOT_LOGGED_IN])}
        return self._push(values, login.token)

    def _push(self, values: Values, token: str) -> Updates:
        hub = self.export_form.hub

        def work() -> Updates:
            export = self._export(values, self._order(values))
            place = self.studio.push(export, values[hub.repo], token, values[hub.private])
            return {hub.pushed: markup.messages([f"Uploaded to {place}."])}

        return updates_or_problem(hub.pushed, work)

    def _order(self, values: Values) -> ExportOrder:
        merged: FinishedMerge | None = values[self.form.merged]
        if merged is None:
            raise MergeError("There is no merge yet: merge first.")
        return ExportOrder(
            merged,
            tuple(values[self.views.drawn]),
            values[self.export_form.name],
            values[self.files.form],
            values[self.export_form.dtype],
            str(values[self.files.rank]),
        )

    def _export(self, values: Values, order: ExportOrder) -> Export:
        return self.studio.take(values[self.form.session], order)
