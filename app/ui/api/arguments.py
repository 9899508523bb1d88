"""The arguments that /merge and /render share: files with their settings, and the base model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import gradio as gr

from app.schemas.merge import MergeOrder, SelectedFile
from app.service import Studio
from app.settings.model import Settings
from app.ui.api.endpoint import Argument, choice
from merging.errors import MergeError
from merging.options import Precision


@dataclass(frozen=True)
class PerFile:
    """A list argument: one entry for each file, in their order, for one field of it."""

    field: str
    items: str  # "number" or "string", as JSON schema calls them
    missing: object  # for every file, where no list is given
    read: Callable[[Any], object]  # entry → value of the field
    help: str

    def of(self, name: str, given: object, count: int) -> list[object]:
        """A value for each of ``count`` files; MergeError if the list does not fit them."""
        if given is None or given == []:
            return [self.missing] * count
        kinds: tuple[type, ...] = (str,) if self.items == "string" else (int, float)
        fits = isinstance(given, list) and len(given) == count
        if not (fits and all(_is(entry, kinds) for entry in given)):  # type: ignore[attr-defined]
            words = "texts" if self.items == "string" else "numbers"
            raise MergeError(
                f"{name} must be a list of {count} {words}, one per file in their order."
            )
        return [self.read(entry) for entry in given]  # type: ignore[attr-defined]


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


PER_FILE = {
    "strengths": PerFile(
        "strength",
        "number",
        1.0,
        float,
        "how strong each is, as in <lora:name:0.8>; 1 unless given",
    ),
    "triggers": PerFile(
        "trigger", "string", "", str, "the words that call each; those of the files unless given"
    ),
    "text_encoder": PerFile(
        "text_encoder",
        "number",
        None,
        float,
        "strength of each text encoder part, in the place of the whole's",
    ),
    "unet": PerFile(
        "unet", "number", None, float, "strength of each UNet part, in the place of the whole's"
    ),
    "blocks": PerFile(
        "blocks",
        "string",
        "",
        str,
        "block weights of each, a preset such as MIDD or 12, 17, 20 or 26 numbers",
    ),
    "own_prompts": PerFile(
        "prompts",
        "string",
        (),
        _lines,
        "calibration prompts of each, one a line; made from the trigger unless given",
    ),
}


def file_arguments(help: str, *without: str) -> dict[str, Argument]:
    """``files``, with this help, and the list arguments, by name."""
    files = gr.File(file_count="multiple", file_types=[".safetensors"], label="files")
    # Gradio's own schema refers to its parts, and its tools for language models lose the parts.
    parts = files.api_info()["$defs"]
    file = parts["FileData"]
    file["properties"]["meta"] = parts["FileDataMeta"]
    lists = {
        name: Argument(each.help, None, _schema(gr.JSON(label=name), {"type": each.items}))
        for name, each in PER_FILE.items()
        if name not in without
    }
    return {"files": Argument(help, None, _schema(files, file)), **lists}


def base_arguments(settings: Settings) -> dict[str, Argument]:
    """``base`` and ``precision``."""
    return {
        "base": Argument(
            "base model, mini (embedded), sd15, or where allowed a folder or a Hub id",
            MergeOrder.base,
            gr.Textbox(settings.base, label="base"),
        ),
        "precision": Argument(
            "of the base model, auto (fp32 on a CPU, else fp16), fp32, fp16 or bf16",
            MergeOrder.precision,
            choice("precision", get_args(Precision), settings.precision),
        ),
    }


def _schema(widget: gr.components.Component, items: dict[str, Any]) -> gr.components.Component:
    """The widget, which tells programs that it takes a list of these.

    A class of its own, which would be the usual way, has Gradio write a .pyi file beside it.
    """
    widget.api_info = lambda: {"type": "array", "items": items}
    return widget


def picks(
    studio: Studio, session: str, values: dict[str, Any]
) -> tuple[tuple[SelectedFile, ...], tuple[SelectedFile, ...]]:
    """The client's LoRAs and textual inversions, with what the lists say of each file.

    ``values`` are those of all arguments of the call.
    """
    paths = [Path(path) for path in values["files"] or []]
    columns = {
        each.field: each.of(name, values[name], len(paths))
        for name, each in PER_FILE.items()
        if name in values
    }
    cards: list[Any] = []
    for path in paths:
        cards.append(studio.add(session, path, cards))
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    every = [
        SelectedFile(card.path, card.name, is_word=card.is_word, **row)
        for card, row in zip(cards, rows, strict=True)
    ]
    loras = tuple(pick for pick in every if not pick.is_word)
    return loras, tuple(pick for pick in every if pick.is_word)


def _is(entry: object, kinds: tuple[type, ...]) -> bool:
    return isinstance(entry, kinds) and not isinstance(entry, bool)
