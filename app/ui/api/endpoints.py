"""The public endpoints, for gradio_client and plain HTTP; built from real components.

Real components matter: Gradio checks that a file was uploaded only where a ``gr.File`` takes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import gradio as gr

from app.jobs.queue import Step
from app.schemas.draw import DrawOrder, Picture
from app.service import Studio
from app.settings.model import Settings
from app.ui.api.arguments import State, at_last, doing, picks, shown_to_client, source_widgets
from app.ui.api.inspect import add_reading
from app.ui.api.merge import add_merge
from merging.base_models import base_model
from merging.options import Compose, Precision, Sampler

ENDPOINTS = ("inspect", "methods", "merge", "render")  # and no other event is to be called


def add_endpoints(studio: Studio) -> None:
    """/merge, /render, /inspect and /methods, behind widgets that nobody sees."""
    with gr.Group(visible=False):
        add_reading(studio, shown_to_client)
        add_merge(studio)
        _add_render(studio)


@dataclass(frozen=True)
class RenderEndpoint:
    """The service behind one public function."""

    studio: Studio

    def render(
        self,
        prompt: str,
        files: list[str] | None = None,
        strengths: list[float] | None = None,
        triggers: list[str] | None = None,
        text_encoder: list[float] | None = None,
        unet: list[float] | None = None,
        blocks: list[str] | None = None,
        base: str = "mini",
        precision: str = "auto",
        seed: int = 0,
        steps: int = 25,
        guidance: float | None = None,
        negative: str = "",
        sampler: str = "DDIM",
        compose: str = "sum",
        size: str = "",
    ) -> Iterator[tuple[str | None, State]]:
        """Draw one picture with a base model and any number of LoRA files, or none.

        Gives a PNG with its settings inside. Lists have one entry per file, in their order, or are
        left out.

        Args:
            prompt: what to draw
            files: LoRAs, such as the one that merge gave, and textual inversions, as .safetensors
            strengths: how strong each is, as in <lora:name:0.8>; 1 unless given
            triggers: the words that call each; those of the files unless given
            text_encoder: strength of each text encoder part, in the place of the whole's
            unet: strength of each UNet part, in the place of the whole's
            blocks: block weights of each, a preset such as MIDD or 12, 17, 20 or 26 numbers
            base: base model, mini (embedded), sd15, or where allowed a folder or a Hub id
            precision: of the base model, auto (fp32 on a CPU, else fp16), fp32, fp16 or bf16
            seed: the same seed gives the same picture
            steps: of the sampler
            guidance: how closely the prompt is followed; what the base draws best with unless given
            negative: what should not be in the picture
            sampler: how noise becomes a picture
            size: WIDTHxHEIGHT in pixels, such as 512x768; the base model's own unless given
            compose: sum (all LoRAs everywhere) or gated (each on its own words and region)
        """
        lists = {
            "strengths": strengths,
            "triggers": triggers,
            "text_encoder": text_encoder,
            "unet": unet,
            "blocks": blocks,
        }
        with shown_to_client():
            session = self.studio.open_session()
            loras, words = picks(self.studio, session, files, **lists)
            order = DrawOrder(
                loras,
                prompt,
                base,
                words=words,
                precision=precision,
                seed=seed,
                steps=steps,
                guidance=base_model(base).guidance if guidance is None else guidance,
                negative=negative,
                sampler=sampler,
                columns=(compose,),
                size=size,
            )
            for item in at_last(self.studio.draw(session, order)):
                if isinstance(item, Step):
                    yield None, doing(item)
                elif isinstance(item, Picture):
                    yield str(item.path), {"progress": 1.0, "doing": "done"}


def _add_render(studio: Studio) -> None:
    gr.Button("render").click(
        RenderEndpoint(studio).render,
        _render_widgets(studio.settings),
        [gr.File(label="picture"), gr.JSON(label="status")],
        api_name="render",
        concurrency_limit=None,
    )


def _render_widgets(settings: Settings) -> list[gr.components.Component]:
    """One per argument of /render, in their order."""
    return [
        gr.Textbox("", label="prompt"),
        *source_widgets("own_prompts").values(),
        gr.Textbox(settings.base, label="base"),
        gr.Dropdown(list(get_args(Precision)), value=settings.precision, label="precision"),
        gr.Number(0, label="seed", precision=0, minimum=0),
        gr.Number(25, label="steps", precision=0, minimum=1, maximum=100),
        gr.Number(None, label="guidance", minimum=0, maximum=30),
        gr.Textbox("", label="negative"),
        gr.Dropdown(list(get_args(Sampler)), value="DDIM", label="sampler"),
        gr.Dropdown(list(get_args(Compose)), value="sum", label="compose"),
        gr.Textbox("", label="size"),
    ]
