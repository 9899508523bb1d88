"""The arguments that /merge and /render share: files, their settings, and the base model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import gradio as gr

from app.schemas.merge import MergeOrder, SelectedFile
from app.service import Studio
from app.settings.model import Settings
from app.ui.api.checks import LONGEST_TEXT, listed, text, uploads
from app.ui.api.endpoint import Argument, choice
from merging.errors import MergeError
from merging.io.regions import FORM, Region, parse_region
from merging.options import Precision
from merging.request import MAX_STRENGTH

MAX_REGIONS = 32
LONGEST_NAME = 1000  # characters of a folder or a Hub id
NUMBERS = f"numbers of at most {MAX_STRENGTH:g}"


@dataclass(frozen=True)
class PerFile:
    """A list argument: one entry per file, in their order, for one field of SelectedFile."""

    field: str
    items: str  # type in JSON schema: "number" or "string"
    default: object  # for every file, if the list is left out
    read: Callable[[Any], object]  # entry → value of the field
    help: str

    def values_for(self, name: str, values: object, count: int) -> list[object]:
        """One value per file; MergeError if ``values`` is no list of ``count`` such entries."""
        if values is None or values == []:
            return [self.default] * count
        kinds: tuple[type, ...] = (str,) if self.items == "string" else (int, float)
        fits = isinstance(values, list) and len(values) == count
        if not (fits and all(_has_type(v, kinds) for v in values)):  # type: ignore[attr-defined]
            plural = "texts" if self.items == "string" else NUMBERS
            raise MergeError(
                f"{name} must be a list of {count} {plural}, one per file in their order."
            )
        return [self.read(entry) for entry in values]  # type: ignore[attr-defined]


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


PER_FILE = {
    "strengths": PerFile(
        "strength",
        "number",
        1.0,
        float,
        "strengths, as in <lora:name:0.8>; 1 unless given",
    ),
    "triggers": PerFile(
        "trigger", "string", "", str, "trigger words; those in the files unless given"
    ),
    "text_encoder": PerFile(
        "text_encoder",
        "number",
        None,
        float,
        "strengths of the text encoder parts, instead of the strengths above",
    ),
    "unet": PerFile(
        "unet", "number", None, float, "strengths of the UNet parts, instead of the strengths above"
    ),
    "blocks": PerFile(
        "blocks",
        "string",
        "",
        str,
        "block weights: a preset such as MIDD, or 12, 17, 20 or 26 numbers",
    ),
    "own_prompts": PerFile(
        "prompts",
        "string",
        (),
        _lines,
        "calibration prompts, one per line; made from the trigger words unless given",
    ),
}


def file_arguments(settings: Settings, help: str, *without: str) -> dict[str, Argument]:
    """``files``, with this help, and the list arguments but for ``without``, by name."""
    most = settings.max_files + settings.max_words
    files = gr.File(file_count="multiple", file_types=[".safetensors"], label="files")
    # Gradio's schema has references, which its MCP tools leave unresolved.
    definitions = files.api_info()["$defs"]
    file = definitions["FileData"]
    file["properties"]["meta"] = definitions["FileDataMeta"]
    lists = {
        name: Argument(
            entry.help,
            None,
            _schema(gr.JSON(label=name), {"type": entry.items}),
            listed(f"{entry.items}s", most),
        )
        for name, entry in PER_FILE.items()
        if name not in without
    }
    return {"files": Argument(help, None, _schema(files, file), uploads(most)), **lists}


def base_arguments(settings: Settings) -> dict[str, Argument]:
    """``base`` and ``precision``."""
    return {
        "base": Argument(
            "base model: mini (embedded), sd15, or where allowed a folder or a Hub id",
            MergeOrder.base,
            gr.Textbox(settings.base, label="base"),
            text(LONGEST_NAME),
        ),
        "precision": choice(
            "precision of the base model: auto (fp32 on a CPU, else fp16), fp32, fp16 or bf16",
            "precision",
            get_args(Precision),
            MergeOrder.precision,
            settings.precision,
        ),
    }


def region_argument() -> Argument:
    """``regions``: boxes for the compositions that need them."""
    about = f"boxes for compose regions, each {FORM} in shares of the picture from 0 to 1"
    widget = _schema(gr.JSON(label="regions"), {"type": "string"})
    return Argument(about, None, widget, listed("texts", MAX_REGIONS))


def read_regions(values: object) -> tuple[Region, ...]:
    """The regions of a call; MergeError if ``values`` is no list of such texts."""
    boxes = [] if values is None else values
    if not (isinstance(boxes, list) and all(isinstance(box, str) for box in boxes)):
        raise MergeError(f"regions must be a list of texts, each {FORM}.")
    return tuple(map(parse_region, boxes))


def _schema(widget: gr.components.Component, items: dict[str, Any]) -> gr.components.Component:
    """The widget, with a schema that says: a list of ``items``.

    For a subclass of the widget, Gradio would write a .pyi file into the source folder.
    """
    widget.api_info = lambda: {"type": "array", "items": items}
    return widget


def selected_files(
    studio: Studio, session: str, values: dict[str, Any]
) -> tuple[tuple[SelectedFile, ...], tuple[SelectedFile, ...]]:
    """The client's LoRAs and textual inversions, with their entries of the lists.

    ``values`` are all arguments of the call by name.
    """
    paths = [Path(path) for path in values["files"] or []]
    columns = {
        entry.field: entry.values_for(name, values[name], len(paths))
        for name, entry in PER_FILE.items()
        if name in values
    }
    cards: list[Any] = []
    for path in paths:
        cards.append(studio.add(session, path, cards))
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    files = [
        SelectedFile(card.path, card.name, is_word=card.is_word, **row)
        for card, row in zip(cards, rows, strict=True)
    ]
    loras = tuple(file for file in files if not file.is_word)
    return loras, tuple(file for file in files if file.is_word)


def _has_type(entry: object, kinds: tuple[type, ...]) -> bool:
    if isinstance(entry, str):
        return str in kinds and len(entry) <= LONGEST_TEXT
    number = isinstance(entry, kinds) and not isinstance(entry, bool)
    return number and abs(entry) <= MAX_STRENGTH  # type: ignore[arg-type]
