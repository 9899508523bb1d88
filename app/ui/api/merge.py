"""/merge: every option of a merge as an argument of its own, for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import gradio as gr

from app.jobs.queue import Step
from app.schemas.export import FORMS, TakeOrder
from app.schemas.merge import Merged, MergeOrder
from app.service import Studio
from app.settings.model import Settings
from app.ui.api.arguments import State, at_last, doing, picks, shown_to_client, source_widgets
from app.ui.common import DEFAULTS
from app.ui.sections.merge_options import CHOICES
from merging.methods import METHODS
from merging.options import Dtype, Precision


@dataclass(frozen=True)
class MergeEndpoint:
    """The service behind one public function; its arguments are the fields of a MergeOrder."""

    studio: Studio

    def merge(
        self,
        files: list[str] | None = None,
        strengths: list[float] | None = None,
        triggers: list[str] | None = None,
        text_encoder: list[float] | None = None,
        unet: list[float] | None = None,
        blocks: list[str] | None = None,
        own_prompts: list[str] | None = None,
        prompts: str = "",
        base: str = "mini",
        precision: str = "auto",
        method: str = "iteris",
        targets: str = "attention",
        samples: int = 50,
        rows: int | None = 256,
        teacher: str = "single",
        composed_weight: float = 4.0,
        preserve: float | None = None,
        fallback: str = "sum",
        ridge: float = 1e-3,
        cross_ridge: float | None = None,
        mode: str = "delta",
        weighting: str = "merged",
        padding: str = "keep",
        tokens: str = "all",
        rounds: int | None = None,
        rank: str = "exact",
        seed: int = 0,
        dtype: str = "fp16",
        file_format: str = "kohya",
    ) -> Iterator[tuple[str | None, State]]:
        """Merge Stable Diffusion 1.x LoRA files into one adapter file, without training.

        Gives the file and a report of every layer with the recipe. Lists have one entry per file,
        in their order, or are left out. A call takes from seconds to minutes.

        Args:
            files: two or more LoRAs, and textual inversions for their prompts, as .safetensors
            strengths: how strong each is, as in <lora:name:0.8>; 1 unless given
            triggers: the words that call each; those of the files unless given
            text_encoder: strength of each text encoder part, in the place of the whole's
            unet: strength of each UNet part, in the place of the whole's
            blocks: block weights of each, a preset such as MIDD or 12, 17, 20 or 26 numbers
            own_prompts: calibration prompts of each, one a line; made from the trigger unless given
            prompts: calibration prompts for all, one a line, each saying a trigger
            base: base model, mini (embedded), sd15, or where allowed a folder or a Hub id
            precision: of the base model, auto (fp32 on a CPU, else fp16), fp32, fp16 or bf16
            method: how to merge; the methods endpoint lists them
            targets: layers that are solved from prompts, cross-attention, attention or all
            samples: calibration prompts made per LoRA
            rows: most positions of one picture that count, 0 for all
            teacher: single (each LoRA on its own prompts), or who draws prompts with two: tsv, sum
                or composed (each LoRA in its own place)
            composed_weight: weight of those prompts, where each LoRA's own weigh 1
            preserve: weight of prompts without any concept, which keep the rest as it is
            fallback: what a layer does where prompts say nothing, mean, sum or zero
            ridge: how much of the fallback comes in, the paper's alpha 2
            cross_ridge: the paper's alpha 1, in the place of the fallback
            mode: what is imitated, delta, delta+residual or full
            weighting: the paper's lambda, merged, delta, relative or uniform
            padding: tokens after a prompt's end, keep or first-eos
            tokens: words of a prompt that count, all or concept
            rounds: the paper's iteration so many times, in the place of the one pass
            rank: of the result, exact, auto, full or a number
            seed: the same seed gives the same file
            dtype: precision of the file, fp16, bf16 or fp32
            file_format: kohya (for every program), diffusers, or full (every change whole)
        """
        # The arguments from ``prompts`` on are the order's own fields, by the same names.
        options = {name: value for name, value in locals().items() if name in OPTIONS}
        lists = {
            "strengths": strengths,
            "triggers": triggers,
            "text_encoder": text_encoder,
            "unet": unet,
            "blocks": blocks,
            "own_prompts": own_prompts,
        }
        with shown_to_client():
            session = self.studio.open_session()
            loras, words = picks(self.studio, session, files, **lists)
            order = MergeOrder(loras, words=words, **{**options, "rows": rows or None})
            for item in at_last(self.studio.merge(session, order)):
                if isinstance(item, Step):
                    yield None, doing(item)
                else:
                    yield self._told(session, item, file_format)

    def _told(self, session: str, merged: Merged, file_format: str) -> tuple[str, State]:
        """The file, and everything that is known of it."""
        path = merged.kohya if file_format == "kohya" else merged.diffusers
        if file_format == "full":
            asked = TakeOrder(merged, form="full", dtype=merged.order.dtype)
            path = merged.full or self.studio.take(session, asked).file
        return str(path), {"recipe": merged.recipe, **merged.report}


OPTIONS = MergeOrder.__dataclass_fields__.keys() - {"picks", "words"}  # which are files


def add_merge(studio: Studio) -> None:
    """The endpoint, behind widgets that nobody sees."""
    gr.Button("merge").click(
        MergeEndpoint(studio).merge,
        list(merge_widgets(studio.settings).values()),
        [gr.File(label="adapter"), gr.JSON(label="report")],
        api_name="merge",
        concurrency_limit=None,
    )


def merge_widgets(settings: Settings) -> dict[str, gr.components.Component]:
    """One per argument of /merge, in their order."""
    return {
        **source_widgets(),
        "prompts": gr.Textbox("", label="prompts"),
        "base": gr.Textbox(settings.base, label="base"),
        "precision": _choice("precision", get_args(Precision), settings.precision),
        "method": _choice("method", tuple(METHODS)),
        "targets": _library_choice("targets"),
        "samples": _whole("samples", lowest=1, highest=200),
        "rows": _whole("rows", lowest=0),
        "teacher": _library_choice("teacher"),
        "composed_weight": gr.Number(DEFAULTS["composed_weight"], label="composed_weight"),
        "preserve": gr.Number(None, label="preserve", minimum=0),
        "fallback": _library_choice("fallback"),
        "ridge": gr.Number(DEFAULTS["ridge"], label="ridge"),
        "cross_ridge": gr.Number(None, label="cross_ridge", minimum=0),
        "mode": _library_choice("mode"),
        "weighting": _library_choice("weighting"),
        "padding": _library_choice("padding"),
        "tokens": _library_choice("tokens"),
        "rounds": _whole("rounds", lowest=1),
        "rank": gr.Textbox(str(DEFAULTS["rank"]), label="rank"),
        "seed": _whole("seed", lowest=0),
        "dtype": _choice("dtype", get_args(Dtype)),
        "file_format": _choice("file_format", tuple(FORMS), "kohya"),
    }


def _choice(name: str, choices: tuple[str, ...], value: str | None = None) -> gr.Dropdown:
    return gr.Dropdown(list(choices), value=value or DEFAULTS[name], label=name)


def _library_choice(name: str) -> gr.Dropdown:
    return _choice(name, get_args(CHOICES[name]))


def _whole(name: str, lowest: int, highest: int | None = None) -> gr.Number:
    return gr.Number(DEFAULTS[name], label=name, precision=0, minimum=lowest, maximum=highest)
