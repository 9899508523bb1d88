"""Limits of the app: how much one visitor may use, and which base models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from stat import S_ISREG
from typing import get_args

from app.schemas.batch import BatchOrder
from app.schemas.card import LONGEST_WORD, Card, fits, misfit
from app.schemas.draw import COLUMNS, COMPOSED, DrawOrder, OtherMerge
from app.schemas.merge import MergeOrder, SelectedFile
from app.schemas.tuning import JUDGES, TuneOrder
from app.settings.model import Settings
from merging.base_models import BASE_MODELS, base_model
from merging.errors import MergeError
from merging.io.regions import MAX_REGIONS
from merging.methods import METHODS
from merging.options import Dtype

LONGEST_FILE_NAME = 255  # bytes, on all usual file systems


def check_file(settings: Settings, path: Path, name: str = "") -> None:
    """MergeError if the file is too large, is gone, or is no regular file."""
    name = name or path.name
    try:
        status = path.stat()
    except OSError:
        raise MergeError(f"{name} is no longer on this machine: add the file again.") from None
    if not S_ISREG(status.st_mode):
        raise MergeError(f"{name} is not a regular file: add a .safetensors file.")
    if status.st_size > settings.max_mb * 2**20:
        raise MergeError(f"{name}: the file is larger than {settings.max_mb} MB, the limit here.")


def check_new(settings: Settings, fresh: Card, present: list[Card]) -> None:
    """MergeError if the list is full, or has the same file already."""
    most, kind = (
        (settings.max_words, "textual inversions")
        if fresh.is_word
        else (settings.max_files, "LoRAs")
    )
    if [card.is_word for card in present].count(fresh.is_word) >= most:
        raise MergeError(
            f"{fresh.name}: a merge takes at most {most} {kind} here; remove one first."
        )
    for other in present:
        if other.sha256 == fresh.sha256:
            twin = "" if other.name == fresh.name else f", as {other.name}"
            raise MergeError(
                f"{fresh.name}: the same file is on the list already{twin}; raise its strength "
                "instead."
            )


def check_merge(settings: Settings, order: MergeOrder) -> None:
    """MergeError for too few or too many LoRAs, and for values that are not allowed here."""
    count = len(order.picks)
    if count < 2:
        state = "there is only one" if count else "there is none yet"
        raise MergeError(f"A merge needs at least two LoRA files, and {state}: add another one.")
    if count > settings.max_files:
        raise MergeError(f"A merge takes at most {settings.max_files} LoRAs here, not {count}.")
    check_choice(order.dtype, get_args(Dtype))
    if long := [word.name for word in order.words if len(word.trigger) > LONGEST_WORD]:
        raise MergeError(f"{long[0]}: a word has at most {LONGEST_WORD} letters; shorten it.")
    for lines in (order.prompts.splitlines(), *(pick.prompts for pick in order.picks)):
        check_lines(settings, lines)
    check_here(order.picks)
    check_base(settings, order.base)
    check_choice(order.precision, settings.precisions)


def check_ready(settings: Settings, order: MergeOrder, cards: Sequence[Card]) -> None:
    """MergeError for what can be told before a merge: also a wrong base, or missing triggers."""
    check_merge(settings, order)
    made_for = {card.path: card.base for card in cards}
    for pick in order.picks:
        if sentence := misfit(pick.name, made_for.get(pick.path, order.base), order.base):
            raise MergeError(sentence)
        if METHODS[order.method].calibrated and not (pick.trigger or pick.prompts):
            raise MergeError(f"{pick.name} names no trigger words: type them behind its ⋯.")


def check_choice(precision: str, choices: Sequence[str]) -> None:
    """MergeError for an unknown precision of a file or a base model."""
    if precision not in choices:
        raise MergeError(f"The precision must be {', '.join(choices)}, not {precision!r}.")


def check_here(picks: Sequence[SelectedFile]) -> None:
    """MergeError if the file of a LoRA is missing, as in an old entry of the history."""
    for pick in picks:
        if not pick.path.is_file():
            raise MergeError(
                f"{pick.name} is no longer in your library: add its file again, then open the "
                "merge from the history once more."
            )


def check_batch(settings: Settings, order: BatchOrder) -> None:
    """MergeError for a batch without methods, or with too many merges."""
    check_merge(settings, order.merge)
    if not order.methods:
        raise MergeError("Choose at least one method for the batch.")
    if order.scene:
        check_draw(settings, replace(order.scene, count=1))
    if order.count > settings.max_batch:
        raise MergeError(
            f"These are {order.count} merges; at most {settings.max_batch} are made at once here: "
            "remove a method or a strength."
        )


def check_tune(settings: Settings, order: TuneOrder) -> None:
    """MergeError for a search that cannot be made, or with too many merges."""
    check_merge(settings, order.merge)
    if order.judge not in JUDGES:
        raise MergeError(f"The judge must be {', '.join(JUDGES)}, not {order.judge!r}.")
    if order.merge.refine:
        raise MergeError(
            "A search merges many times: set the steps of refinement to 0, and refine its best."
        )
    if not 1 <= order.budget <= settings.max_batch:
        raise MergeError(
            f"A search may have 1 to {settings.max_batch} merges here, not {order.budget}."
        )


def check_lines(settings: Settings, lines: Sequence[str]) -> None:
    """MergeError for too many or too long calibration prompts."""
    longest = max(map(len, lines), default=0)
    if len(lines) > settings.max_lines or longest > settings.max_line:
        raise MergeError(
            f"At most {settings.max_lines} calibration prompts of {settings.max_line} characters "
            f"are allowed, not {len(lines)} of up to {longest}."
        )


def check_draw(settings: Settings, order: DrawOrder) -> None:
    """MergeError if there is nothing to draw, or there are too many pictures."""
    if not order.prompts:
        raise MergeError("Type a prompt first: what should be in the pictures?")
    longest = max(map(len, [*order.prompts, order.negative]))
    if longest > settings.max_prompt:
        raise MergeError(
            f"The prompt has {longest} characters; at most {settings.max_prompt} are allowed: "
            "shorten it."
        )
    scenes = len(order.prompts) * order.count
    if not 1 <= scenes <= settings.max_scenes:
        raise MergeError(
            f"{len(order.prompts)} prompts with {order.count} seeds each are {scenes} pictures a "
            f"column; at most {settings.max_scenes} are drawn at once."
        )
    if not (order.columns or order.others) or not set(order.columns) <= {*COLUMNS, *COMPOSED}:
        raise MergeError("Choose at least one column of the comparison.")
    if len(order.picks) > settings.max_files:
        raise MergeError(f"At most {settings.max_files} LoRAs are drawn, not {len(order.picks)}.")
    if len(order.regions) > MAX_REGIONS:
        raise MergeError(f"At most {MAX_REGIONS} regions are drawn, not {len(order.regions)}.")
    check_here(order.picks)
    check_others(settings, order.others, order.base)
    for concept, pictures in order.references.items():
        if len(pictures) > settings.max_references:
            raise MergeError(
                f"{concept}: at most {settings.max_references} reference pictures are allowed, not "
                f"{len(pictures)}."
            )
    check_base(settings, order.base)
    check_choice(order.precision, settings.precisions)


def check_others(settings: Settings, others: Sequence[OtherMerge], base: str) -> None:
    """MergeError for too many other merges, or one that cannot be drawn."""
    if len(others) > settings.max_files:
        raise MergeError(
            f"At most {settings.max_files} other merges are drawn beside the merge, not "
            f"{len(others)}: remove some."
        )
    for other in others:
        if not fits(other.base, base):
            raise MergeError(
                f"{other.title}: made for {base_model(other.base).title}, but these pictures are "
                f"drawn with {base_model(base).title}: remove it from the other merges."
            )
        for path in (other.path, *other.words):
            if not path.is_file():
                raise MergeError(
                    f"{other.title}: its file {path.name} is gone: choose it again, or remove it "
                    "from the other merges."
                )


def check_base(settings: Settings, name: str) -> None:
    """MergeError for a folder or Hub id in a public app, except for the operator's base model."""
    if not name.strip():
        raise MergeError("Name the base model: a folder, a .safetensors file, or a Hub id.")
    if any(len(part.encode()) > LONGEST_FILE_NAME for part in Path(name).parts) or "\0" in name:
        raise MergeError(f"No folder and no Hub id can be called {name[:40]!r}…; name another one.")
    if name not in (*BASE_MODELS, settings.base) and not settings.free_base:
        raise MergeError("This base model is not offered here; choose one from the list.")
