"""The stage with the pictures, and closer looks at them: slider, heat maps, commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app.schemas.draw import MissingScores, MissingVerdict, Picture
from app.ui.common import AT_ONCE, CHOICES, Updates, served
from app.ui.html import fragments as markup
from app.ui.html.rendering import render_template
from app.ui.html.stage import stage_html
from app.ui.html.verdict import verdict_html

NO_PICTURES = (
    "The pictures appear here: the base model, each LoRA alone, loaded together, and merged."
)
MAPS = (
    "Bright: where the model paid attention to the trigger words. An even haze: nowhere in "
    "particular. Two concepts that are bright in one place share it."
)
GALLERY: dict[str, Any] = {
    "show_label": False,
    "height": "auto",
    "object_fit": "contain",
    "format": "png",
    "interactive": False,
    "buttons": ["download", "fullscreen"],
    "elem_classes": "shots",
}


@dataclass(frozen=True)
class PicturesSection:
    """The widgets that show the last pictures."""

    drawn: gr.State  # list[Picture]
    verdict: gr.HTML
    stage: gr.HTML
    scores: gr.HTML  # what the scores mean, or why they are missing
    closer: gr.Accordion
    left: gr.Dropdown
    right: gr.Dropdown
    slider: gr.HTML
    map_choice: gr.Dropdown
    maps: gr.Gallery
    command: gr.Code

    def clear(self) -> Updates:
        """Remove the last comparison."""
        return {self.stage: empty_stage(), self.drawn: [], **self.clear_verdict()}

    def clear_verdict(self) -> Updates:
        """Take back what was concluded from the last pictures."""
        return {self.verdict: gr.HTML(visible=False)}

    def show_pictures(self, drawn: list[Picture], waiting: bool = False) -> Updates:
        """The pictures so far; ``waiting`` for the merge's leaves room for it."""
        stage = {self.drawn: drawn, self.stage: stage_html(drawn, self.address, waiting)}
        verdict = verdict_html(drawn)
        return stage | ({self.verdict: gr.HTML(verdict, visible=True)} if verdict else {})

    def address(self, path: Path) -> str:
        """Where the browser finds a picture."""
        return served(self.stage, path)

    def show_score_help(self, scored: bool) -> Updates:
        """What the scores mean, if there will be any."""
        return {self.scores: gr.HTML(render_template("scores"), visible=scored)}

    def show_missing(self, missing: MissingScores | MissingVerdict) -> Updates:
        """Why there are no scores, or why it is not said which concepts are in the pictures."""
        if isinstance(missing, MissingScores):
            text = markup.problem_list([f"No scores: {missing.why}"])
            return {self.scores: gr.HTML(text, visible=True)}
        text = markup.paragraph(
            "note", f"What the pictures show could not be counted. {missing.why}"
        )
        return {self.verdict: gr.HTML(text, visible=True)}

    def show_views(self, drawn: list[Picture], command: str) -> Updates:
        """Slider, heat maps and commands of a complete comparison."""
        names = [picture.caption for picture in drawn]
        left, right = names[max(0, len(names) - 2)], names[-1]
        return {
            self.closer: gr.Accordion(visible=True),
            self.left: gr.Dropdown(names, value=left),
            self.right: gr.Dropdown(names, value=right),
            self.slider: self.slider_html(drawn, left, right),
            self.map_choice: gr.Dropdown(names, value=right),
            self.maps: map_pictures(drawn, right),
            self.command: command,
        }

    def slider_html(self, drawn: Sequence[Picture], left: str, right: str) -> str:
        """Two pictures, chosen by their captions, under a slider; "" if one is gone."""
        paths = {picture.caption: picture.path for picture in drawn}
        if not {left, right} <= paths.keys():
            return ""
        sides = [(caption, self.address(paths[caption])) for caption in (left, right)]
        return render_template("comparison", sides=sides, note="", cut=50)

    def wire(self) -> None:
        """Connect the choices of slider and heat maps."""
        for side in (self.left, self.right):
            choice = [self.drawn, self.left, self.right]
            side.input(self.slider_html, choice, self.slider, **AT_ONCE)
        self.map_choice.input(map_pictures, [self.drawn, self.map_choice], self.maps, **AT_ONCE)

    @property
    def outputs(self) -> set[Any]:
        return set(vars(self).values())


def empty_stage() -> str:
    """What stands in the place of the pictures until there are some."""
    return markup.paragraph("nothing pictures", NO_PICTURES)


def pictures_section() -> PicturesSection:
    """The stage, empty, and a fold with closer looks, hidden."""
    verdict = gr.HTML(visible=False, elem_id="verdict")
    stage = gr.HTML(empty_stage(), elem_id="pictures", js_on_load=CHOICES)
    scores = gr.HTML(visible=False, elem_id="scores")
    with (
        gr.Accordion("Look closer", open=False, visible=False, elem_id="closer") as closer,
        gr.Tabs(elem_id="views"),
    ):
        with gr.Tab("Slider"):
            with gr.Row():
                left = gr.Dropdown([], label="Left", min_width=140)
                right = gr.Dropdown([], label="Right", min_width=140)
            slider = gr.HTML(elem_id="slider")
        with gr.Tab("Heat maps"):
            gr.HTML(markup.paragraph("about", MAPS))
            map_choice = gr.Dropdown([], label="Picture")
            maps = gr.Gallery(label="Heat maps", columns=3, elem_id="maps", **GALLERY)
        with gr.Tab("Command"):
            command = command_code("The pictures as commands", folded=False)
    drawn = gr.State([])
    slider_view = left, right, slider
    return PicturesSection(
        drawn, verdict, stage, scores, closer, *slider_view, map_choice, maps, command
    )


def command_code(label: str, folded: bool = True) -> gr.Code:
    """A shell command to copy."""
    options: dict[str, Any] = {
        "language": "shell",
        "interactive": False,
        "wrap_lines": True,
        "show_line_numbers": False,  # they are misplaced beside wrapped lines
    }
    if not folded:
        return gr.Code(label=label, **options)
    with gr.Accordion(label, open=False):
        return gr.Code(label=label, **options)


def map_pictures(drawn: Sequence[Picture], caption: str) -> list[tuple[str, str]]:
    """A picture and its heat maps, as (path, caption)."""
    matches = [picture for picture in drawn if picture.caption == caption]
    return [
        (str(path), title)
        for picture in matches
        for title, path in (("the picture", picture.path), *picture.maps)
    ]
