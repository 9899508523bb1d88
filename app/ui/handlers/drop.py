"""What was dropped on the page: LoRAs, what lies beside them, and pictures that were drawn here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from app.schemas.card import Card
from app.schemas.merge import SelectedFile
from app.service import Studio
from app.sidecars import Sidecar, described, is_picture, is_sidecar, read_sidecar
from app.ui.common import Updates, error_sentence
from app.ui.sections.add_files import PackWidgets
from merging.errors import MergeError
from merging.io.files import PEFT_CONFIG
from merging.io.png import read_origin


@dataclass
class Drop:
    """The dropped files by what they are."""

    loras: list[Path] = field(default_factory=list)  # and whatever is nothing else
    sidecars: list[Sidecar] = field(default_factory=list)
    drawn_here: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # a sentence each


def sort_drop(paths: Sequence[Path], present: Iterable[str]) -> Drop:
    """Sort the files; ``present`` are the names of the LoRAs on the page."""
    drop = Drop()
    names = {name.lower() for name in (*present, *(path.stem for path in _loras(paths)))}
    for path in paths:
        if _is_beside(path, names):
            try:
                drop.sidecars.append(read_sidecar(path))
            except MergeError as error:
                drop.problems.append(error_sentence(error))
        elif path.suffix.lower() == ".png":
            drop.drawn_here.append(path)
        else:
            drop.loras.append(path)
    return drop


def _loras(paths: Sequence[Path]) -> list[Path]:
    return [path for path in paths if not is_picture(path) and not is_sidecar(path)]


def _is_beside(path: Path, names: set[str]) -> bool:
    """Whether it describes a LoRA; a picture does by its name, unless it was drawn here."""
    if not is_picture(path):
        return is_sidecar(path) and path.name != PEFT_CONFIG
    stem = path.stem.lower()
    beside = stem.endswith(".preview") or stem in names
    return beside and not _is_drawn_here(path)


def _is_drawn_here(path: Path) -> bool:
    try:
        return bool(read_origin(path))
    except MergeError:
        return False


def redescribed(
    cards: Sequence[Card], picks: Sequence[SelectedFile], sidecars: Sequence[Sidecar]
) -> tuple[list[Card], list[SelectedFile]]:
    """The rows of the page with what was now dropped for them; a typed trigger stays."""
    fresh = [described(card, sidecars) for card in cards]
    return fresh, [
        replace(pick, trigger=after.trigger) if pick.trigger == before.trigger else pick
        for pick, before, after in zip(picks, cards, fresh, strict=True)
    ]


def offered(
    studio: Studio, session: str, widgets: PackWidgets, paths: Sequence[Path]
) -> tuple[list[Path], Updates]:
    """The files that are no packs, and what is shown of the last one that is."""
    others, updates = list[Path](), Updates()
    for path in paths:
        try:
            pack = studio.open_pack(session, path)
        except MergeError:
            pack = None  # said where the file is added
        if pack is None:
            others.append(path)
        else:
            updates = widgets.offer(pack)
    return others, updates
