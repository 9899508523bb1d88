"""Ways to look at a comparison: all pictures, two of them under a slider, and heat maps."""

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
    "The pictures appear here: what the base model draws, each LoRA alone, their plain sum, and "
    "the merge."
)
MAPS = (
    "Bright is where the model looked at the trigger words while it drew; an even haze is nowhere "
    "in particular, and two concepts in one place share it."
)
SHEET: dict[str, Any] = {
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
    """The widgets, over the pictures that were drawn last."""

    drawn: gr.State  # list[Picture]
    blank: gr.HTML  # in the pictures' place until there is one
    shown: gr.Tabs
    gallery: gr.Gallery
    mark: gr.HTML  # the style of the merge's own pictures
    scores: gr.HTML  # what the scores mean, or why there are none
    left: gr.Dropdown
    right: gr.Dropdown
    slider: gr.ImageSlider
    looked: gr.Dropdown
    maps: gr.Gallery
    command: gr.Code

    def cleared(self) -> Updates:
        """Take the last comparison away.

        The tabs stay where they are: hidden and shown again within a moment, as when few steps
        draw fast, the page would leave them hidden.
        """
        return {self.gallery: gr.Gallery([]), self.drawn: []}

    def pictures(self, drawn: list[Picture], across: int, of_the_merge: range) -> Updates:
        """The comparison so far, ``across`` pictures side by side, those of the merge marked."""
        return {
            self.drawn: drawn,
            self.blank: gr.HTML(visible=False),
            self.shown: gr.Tabs(visible=True),
            self.mark: render_template("mark", places=of_the_merge),
            self.gallery: gr.Gallery(
                [(str(picture.path), picture.caption) for picture in drawn], columns=across
            ),
        }

    def explained(self, scored: bool) -> Updates:
        """What the scores mean, where there will be any."""
        return {self.scores: gr.HTML(render_template("scores"), visible=scored)}

    def unscored(self, why: str) -> Updates:
        """Why there are none."""
        return {self.scores: gr.HTML(markup.problem_list([f"No scores: {why}"]), visible=True)}

    def compared(self, drawn: list[Picture], command: str) -> Updates:
        """Slider, maps and command of a comparison that is complete."""
        names = [picture.caption for picture in drawn]
        left, right = names[max(0, len(names) - 2)], names[-1]
        return {
            self.left: gr.Dropdown(names, value=left),
            self.right: gr.Dropdown(names, value=right),
            self.slider: under_slider(drawn, left, right),
            self.looked: gr.Dropdown(names, value=right),
            self.maps: mapped(drawn, right),
            self.command: command,
        }

    def wire(self) -> None:
        """Another choice shows other pictures."""
        for side in (self.left, self.right):
            choice = [self.drawn, self.left, self.right]
            side.input(under_slider, choice, self.slider, **AT_ONCE)
        self.looked.input(mapped, [self.drawn, self.looked], self.maps, **AT_ONCE)

    @property
    def outputs(self) -> set[Any]:
        return set(vars(self).values())


def views() -> PicturesSection:
    """The upper part of the Compare section."""
    blank = gr.HTML(markup.paragraph("nothing pictures", NO_PICTURES))
    with gr.Tabs(visible=False, elem_id="views") as shown:
        with gr.Tab("Grid"):
            gallery = gr.Gallery(label="Pictures", columns=3, elem_id="pictures", **SHEET)
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
            looked = gr.Dropdown([], label="Picture")
            maps = gr.Gallery(label="Heat maps", columns=3, elem_id="maps", **SHEET)
        with gr.Tab("Command"):
            command = as_command("The pictures as commands", folded=False)
    drawn = gr.State([])
    grid = gallery, mark, scores
    return PicturesSection(drawn, blank, shown, *grid, left, right, slider, looked, maps, command)


def as_command(label: str, folded: bool = True) -> gr.Code:
    """What was done, to be copied to a terminal."""
    shown: dict[str, Any] = {
        "language": "shell",
        "interactive": False,
        "wrap_lines": True,
        "show_line_numbers": False,  # beside wrapped lines they stand in the wrong places
    }
    if not folded:
        return gr.Code(label=label, **shown)
    with gr.Accordion(label, open=False):
        return gr.Code(label=label, **shown)


def under_slider(drawn: Sequence[Picture], left: str, right: str) -> tuple[str, str] | None:
    """Both pictures by their captions; None where one is gone."""
    paths = {picture.caption: str(picture.path) for picture in drawn}
    return (paths[left], paths[right]) if {left, right} <= paths.keys() else None


def mapped(drawn: Sequence[Picture], caption: str) -> list[tuple[str, str]]:
    """A picture, and where each trigger was looked at in it."""
    found = [picture for picture in drawn if picture.caption == caption]
    return [
        (str(path), title)
        for picture in found
        for title, path in (("the picture", picture.path), *picture.maps)
    ]
