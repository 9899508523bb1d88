"""What the endpoints share: the client's files with their settings, and answers in sentences."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from app.jobs.queue import Step
from app.schemas.merge import SelectedFile
from app.service import Studio
from app.ui.common import error_sentence
from merging.errors import Cancelled, MergeError

log = logging.getLogger(__name__)
Result = TypeVar("Result")
State = dict[str, Any]  # {"progress": share, "doing": text} while at work, the report at the end


@dataclass(frozen=True)
class PerFile:
    """A list argument: one entry for each file, in their order, for one field of it."""

    field: str
    items: str  # "number" or "string", as JSON schema calls them
    missing: object  # for every file, where no list is given
    read: Callable[[Any], object]  # entry → value of the field

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
    "strengths": PerFile("strength", "number", 1.0, float),
    "triggers": PerFile("trigger", "string", "", str),
    "text_encoder": PerFile("text_encoder", "number", None, float),
    "unet": PerFile("unet", "number", None, float),
    "blocks": PerFile("blocks", "string", "", str),
    "own_prompts": PerFile("prompts", "string", (), _lines),
}


def source_widgets(*without: str) -> dict[str, gr.components.Component]:
    """``files`` and the list arguments, by name."""
    files = gr.File(file_count="multiple", file_types=[".safetensors"], label="files")
    # Gradio's own schema refers to its parts, and its tools for language models lose the parts.
    parts = files.api_info()["$defs"]
    file = parts["FileData"]
    file["properties"]["meta"] = parts["FileDataMeta"]
    lists = {name: gr.JSON(label=name) for name in PER_FILE if name not in without}
    for name, widget in lists.items():
        _schema(widget, {"type": PER_FILE[name].items})
    return {"files": _schema(files, file), **lists}


def _schema(widget: gr.components.Component, items: dict[str, Any]) -> gr.components.Component:
    """The widget, which tells programs that it takes a list of these.

    A class of its own, which would be the usual way, has Gradio write a .pyi file beside it.
    """
    widget.api_info = lambda: {"type": "array", "items": items}
    return widget


def picks(
    studio: Studio, session: str, files: list[str] | None, **given: object
) -> tuple[tuple[SelectedFile, ...], tuple[SelectedFile, ...]]:
    """The client's LoRAs and textual inversions, with what the lists say of each file."""
    paths = [Path(path) for path in files or []]
    columns = {
        PER_FILE[name].field: PER_FILE[name].of(name, entries, len(paths))
        for name, entries in given.items()
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


@contextmanager
def shown_to_client() -> Iterator[None]:
    """MergeError reaches the caller as it stands; anything else goes to the log, without paths."""
    try:
        yield
    except MergeError as error:
        raise gr.Error(str(error), print_exception=False) from None
    except Cancelled:
        raise gr.Error("Stopped.", print_exception=False) from None
    except Exception as error:
        log.exception("an API call failed")
        raise gr.Error(error_sentence(error), print_exception=False) from None


def at_last(items: Generator[Step | Result, None, None]) -> Iterator[Step | Result]:
    """The steps of a job, and its one result after all of them: the last word is what a call gives.

    A job may repeat its last step while it tidies up behind the result.
    """
    results: list[Result] = []
    with closing(items):
        for item in items:
            if isinstance(item, Step):
                yield item
            else:
                results.append(item)
    yield from results


def doing(step: Step) -> State:
    """What a job tells while it runs."""
    return {"progress": round(step.share, 4), "doing": step.text}


def _is(entry: object, kinds: tuple[type, ...]) -> bool:
    return isinstance(entry, kinds) and not isinstance(entry, bool)
