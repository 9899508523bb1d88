"""Views of a comparison: a grid, two pictures under a slider, heat maps, and commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.schemas.draw import Picture
from app.ui.common import AT_ONCE, Updates
from app.ui.html import fragments as markup
from app.ui.html.rendering import render_template

NO_PICTURES = (
    "The pictures appear here: the base model, each LoRA alone, their plain sum, and the merge."
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
    placeholder: gr.HTML  # until there are pictures
    tabs: gr.Tabs
    gallery: gr.Gallery
    mark: gr.HTML  # CSS that outlines the merge's pictures
    scores: gr.HTML  # what the scores mean, or why they are missing
    left: gr.Dropdown
    right: gr.Dropdown
    slider: gr.ImageSlider
    map_choice: gr.Dropdown
    maps: gr.Gallery
    command: gr.Code

    def clear(self) -> Updates:
        """Remove the last comparison.

        The tabs stay visible: if they were hidden and shown again within a moment, as with few
        steps, the page could leave them hidden.
        """
        return {self.gallery: gr.Gallery([]), self.drawn: []}

    def show_pictures(self, drawn: list[Picture], columns: int, of_the_merge: range) -> Updates:
        """The pictures so far, ``columns`` in a row; the merge's pictures are outlined."""
        return {
            self.drawn: drawn,
            self.placeholder: gr.HTML(visible=False),
            self.tabs: gr.Tabs(visible=True),
            self.mark: render_template("mark", places=of_the_merge),
            self.gallery: gr.Gallery(
                [(str(picture.path), picture.caption) for picture in drawn], columns=columns
            ),
        }

    def show_score_help(self, scored: bool) -> Updates:
        """What the scores mean, if there will be any."""
        return {self.scores: gr.HTML(render_template("scores"), visible=scored)}

    def show_missing_scores(self, why: str) -> Updates:
        """Why there are no scores."""
        return {self.scores: gr.HTML(markup.problem_list([f"No scores: {why}"]), visible=True)}

    def show_views(self, drawn: list[Picture], command: str) -> Updates:
        """Slider, heat maps and commands of a complete comparison."""
        names = [picture.caption for picture in drawn]
        left, right = names[max(0, len(names) - 2)], names[-1]
        return {
            self.left: gr.Dropdown(names, value=left),
            self.right: gr.Dropdown(names, value=right),
            self.slider: slider_pair(drawn, left, right),
            self.map_choice: gr.Dropdown(names, value=right),
            self.maps: map_pictures(drawn, right),
            self.command: command,
        }

    def wire(self) -> None:
        """Connect the choices of slider and heat maps."""
        for side in (self.left, self.right):
            choice = [self.drawn, self.left, self.right]
            side.input(slider_pair, choice, self.slider, **AT_ONCE)
        self.map_choice.input(map_pictures, [self.drawn, self.map_choice], self.maps, **AT_ONCE)

    @property
    def outputs(self) -> set[Any]:
        return set(vars(self).values())


def pictures_section() -> PicturesSection:
    """The upper part of step 3, empty."""
    placeholder = gr.HTML(markup.paragraph("nothing pictures", NO_PICTURES))
    with gr.Tabs(visible=False, elem_id="views") as tabs:
        with gr.Tab("Grid"):
            gallery = gr.Gallery(label="Pictures", columns=3, elem_id="pictures", **GALLERY)
            mark = gr.HTML(elem_id="mark")
            scores = gr.HTML(visible=False, elem_id="scores")
        with gr.Tab("Slider"):
            with gr.Row():
                left = gr.Dropdown([], label="Left", min_width=140)
                right = gr.Dropdown([], label="Right", min_width=140)
            slider = gr.ImageSlider(
                label="Drag the line",
                show_label=False,
                format="png",
                interactive=False,
                buttons=["fullscreen"],
                elem_id="slider",
            )
        with gr.Tab("Heat maps"):
            gr.HTML(markup.paragraph("about", MAPS))
            map_choice = gr.Dropdown([], label="Picture")
            maps = gr.Gallery(label="Heat maps", columns=3, elem_id="maps", **GALLERY)
        with gr.Tab("Command"):
            command = command_code("The pictures as commands", folded=False)
    drawn = gr.State([])
    grid = gallery, mark, scores
    slider_view = left, right, slider
    return PicturesSection(drawn, placeholder, tabs, *grid, *slider_view, map_choice, maps, command)


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


def slider_pair(drawn: Sequence[Picture], left: str, right: str) -> tuple[str, str] | None:
    """The paths of two pictures by their captions; None if one is gone."""
    paths = {picture.caption: str(picture.path) for picture in drawn}
    return (paths[left], paths[right]) if {left, right} <= paths.keys() else None


def map_pictures(drawn: Sequence[Picture], caption: str) -> list[tuple[str, str]]:
    """A picture and its heat maps, as (path, caption)."""
    matches = [picture for picture in drawn if picture.caption == caption]
    return [
        (str(path), title)
        for picture in matches
        for title, path in (("the picture", picture.path), *picture.maps)
    ]
