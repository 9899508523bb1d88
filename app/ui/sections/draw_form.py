"""What to draw: prompts, seeds, sampler and columns."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import gradio as gr

from app.schemas.draw import COLUMNS, COMPOSED, SEEDS, USUAL, DrawOrder
from app.storage.history_entry import HistoryEntry
from app.ui.common import AT_ONCE, Updates, Values
from app.ui.html.rendering import render_template
from merging.base_models import base_model
from merging.io.png import Origin
from merging.io.regions import Region, parse_region
from merging.options import MAX_CLIP_SKIP, Sampler

MAX_SEED, MAX_STEPS, MAX_GUIDANCE = 2**31 - 1, 100, 15
MAX_OTHERS = 30  # earlier merges to choose from


@dataclass(frozen=True)
class DrawForm:
    """The widgets, named as the fields of DrawOrder."""

    prompt: gr.Textbox
    seed: gr.Number
    count: gr.Slider
    steps: gr.Slider
    guidance: gr.Slider
    negative: gr.Textbox
    sampler: gr.Dropdown
    size: gr.Textbox
    clip_skip: gr.Number
    columns: gr.CheckboxGroup
    composed: gr.Dropdown  # further columns, of LoRAs that are not merged
    regions: gr.Textbox  # a box on every line
    others: gr.Dropdown  # entries of the history
    maps: gr.Checkbox

    def order_fields(self, values: Values) -> dict[str, Any]:
        """Fields of a DrawOrder, except the prompt and the other merges.

        MergeError for regions that cannot be read.
        """
        return {
            "seed": int(values[self.seed] or 0),
            "count": int(values[self.count]),
            "steps": int(values[self.steps]),
            "guidance": float(values[self.guidance]),
            "negative": values[self.negative],
            "sampler": values[self.sampler],
            "size": values[self.size],
            "clip_skip": int(values[self.clip_skip] or 1),
            "columns": (*values[self.columns], *values[self.composed]),
            "regions": read_regions(values[self.regions]),
            "maps": bool(values[self.maps]),
        }

    def updates_from_order(self, order: DrawOrder) -> Updates:
        """The widgets set to an order."""
        same = {key: it for key, it in vars(self).items() if key != "composed"}
        return {widget: getattr(order, name) for name, widget in same.items()} | {
            self.columns: [name for name in order.columns if name in COLUMNS],
            self.composed: [name for name in order.columns if name in COMPOSED],
            self.regions: regions_update(order.columns, order.regions),
            self.others: [other.entry for other in order.others],
        }

    def other_merges_update(self, merges: Sequence[HistoryEntry], chosen: Sequence[int]) -> Updates:
        """The list of other merges; chosen ones stay chosen if they are still in the list."""
        ids = [entry.id for entry in merges]
        return {
            self.others: gr.Dropdown(
                choices=[(entry.name, entry.id) for entry in merges],
                value=[entry for entry in chosen if entry in ids],
                visible=bool(merges),
            )
        }

    def updates_from_picture(self, origin: Origin) -> Updates:
        """The widgets set to the settings of a picture, clipped to their ranges."""
        is_known = origin.sampler in get_args(Sampler)
        return {
            self.prompt: origin.prompt,
            self.negative: origin.negative,
            self.seed: min(max(origin.seed, 0), MAX_SEED),
            self.count: 1,
            self.steps: min(max(origin.steps, 1), MAX_STEPS),
            self.guidance: min(max(origin.guidance, 0.0), MAX_GUIDANCE),
            self.sampler: origin.sampler if is_known else "DDIM",
            self.size: origin.size,
            self.clip_skip: min(max(origin.clip_skip, 1), MAX_CLIP_SKIP),
        }


def read_regions(lines: str) -> tuple[Region, ...]:
    """The boxes of the lines that are not blank; MergeError for a line that is no box."""
    return tuple(parse_region(line) for line in lines.splitlines() if line.strip())


def regions_update(columns: Sequence[str], regions: Sequence[Region] | None = None) -> gr.Textbox:
    """The field of the boxes, shown where a chosen way to compose needs them; None: as typed."""
    needed = any("regions" in COMPOSED[name].needs for name in columns if name in COMPOSED)
    lines = {} if regions is None else {"value": "\n".join(map(str, regions))}
    return gr.Textbox(visible=needed, **lines)


def prompt_widgets() -> tuple[gr.Textbox, gr.HTML, gr.Button]:
    """The prompt, a chip for every trigger, and the button that suggests another prompt."""
    prompt = gr.Textbox(
        "",
        label="Prompts, one per line",
        lines=3,
        placeholder="What to draw",
        elem_id="prompt",
    )
    with gr.Row(elem_id="chips-row"):
        chips = gr.HTML(elem_id="chips")
        another = gr.Button("Suggest a prompt", size="sm", scale=0, elem_id="another")
    return prompt, chips, another


def draw_form_widgets(base: str, prompt: gr.Textbox) -> DrawForm:
    """What else decides on the pictures, in a fold."""
    with gr.Row(elem_id="seeds"):
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=MAX_SEED, min_width=110)
        dice = gr.Button("Random seed", size="md", min_width=110, elem_id="dice")
        count = gr.Slider(
            1, 8, SEEDS, step=1, label="Pictures", info="of a prompt, each a seed", min_width=170
        )
    with gr.Row():
        steps = gr.Slider(
            1, MAX_STEPS, 25, step=1, label="Steps", info="more: finer, slower", min_width=140
        )
        guidance = gr.Slider(
            0,
            MAX_GUIDANCE,
            base_model(base).guidance,
            step=0.5,
            label="Guidance",
            info="CFG scale; higher: closer to the prompt",
            min_width=140,
        )
    rare = _rare_widgets()
    columns = gr.CheckboxGroup(
        [(title, name) for name, title in COLUMNS.items()], value=list(USUAL), label="Pictures of"
    )
    composed = gr.Dropdown(
        [(f"{row.title} ({row.cost})", name) for name, row in COMPOSED.items()],
        value=[],
        multiselect=True,
        label="Compose without merging",
        info="Every way that is chosen is one more column, drawn with the LoRAs themselves.",
        elem_id="composed",
    )
    gr.HTML(render_template("painter"), elem_id="painter")
    regions = gr.Textbox(
        "",
        visible=False,
        lines=2,
        max_lines=2,
        label="Regions",
        info="Paint above where each LoRA draws, or write TRIGGER=left,top,right,bottom on a line "
        "of its own, as shares of the picture from 0 to 1.",
        placeholder="sks cat=0,0,0.5,1",
        elem_id="regions",
    )
    composed.change(regions_update, composed, regions, **AT_ONCE)
    others = gr.Dropdown(
        [],
        value=[],
        multiselect=True,
        visible=False,
        label="Other merges",
        info=f"The newest {MAX_OTHERS} of the history; every chosen merge is one more picture.",
        elem_id="others",
    )
    maps = gr.Checkbox(True, label="Heat maps: show where each concept went")
    dice.click(lambda: random.randint(0, MAX_SEED), None, seed, **AT_ONCE)
    usual = (prompt, seed, count, steps, guidance, *rare)
    return DrawForm(*usual, columns, composed, regions, others, maps)


def _rare_widgets() -> tuple[gr.Textbox, gr.Dropdown, gr.Textbox, gr.Number]:
    """Negative prompt, sampler, size and clip skip."""
    negative = gr.Textbox(
        "", label="Negative prompt", placeholder="What should not be in the pictures."
    )
    sampler = gr.Dropdown(
        list(get_args(Sampler)),
        value="DDIM",
        label="Sampler",
        info="Samplers differ in speed and detail.",
    )
    size = gr.Textbox(
        "",
        label="Size",
        info="WIDTHxHEIGHT in pixels, such as 512x768; empty: the size of the base model.",
        placeholder="automatic",
        max_lines=1,
        elem_id="size",
    )
    clip_skip = gr.Number(
        1,
        label="Clip skip",
        info="2 leaves out the text encoder's last layer; some LoRAs were trained so.",
        precision=0,
        minimum=1,
        maximum=MAX_CLIP_SKIP,
    )
    return negative, sampler, size, clip_skip
