"""A merge: the visitor's order and the result, as plain data between page and service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.schemas.card import Card
from merging.options import MergeOptions

if TYPE_CHECKING:
    from merging.lora_file import LoraInput


@dataclass(frozen=True)
class SelectedFile:
    """A file with the visitor's settings: a LoRA, or a textual inversion."""

    path: Path
    name: str
    strength: float = 1.0
    trigger: str = ""
    text_encoder: float | None = None  # strength of this part, in place of ``strength``
    unet: float | None = None
    blocks: str = ""  # preset or list of block weights, "" for none
    prompts: tuple[str, ...] = ()  # the visitor's calibration prompts
    on: bool = True  # whether it is used; off: stays in the list
    is_word: bool = False  # a textual inversion; its trigger is its word in prompts
    origin: str = ""  # owner/repo/file@commit where it is from the Hub
    references: tuple[Path, ...] = ()  # pictures of the real thing, for the scores alone

    @property
    def lora_input(self) -> LoraInput:
        """The file and its strengths, as FILE@… on the command line."""
        from merging.lora_file import lora_input  # imports torch, which the page does without

        return lora_input(
            self.path, self.strength, self.text_encoder, self.unet, self.blocks.strip() or None
        )

    @classmethod
    def of(cls, card: Card) -> SelectedFile:
        """A file at full strength with its own trigger."""
        return cls(
            card.path,
            card.name,
            trigger=card.trigger,
            is_word=card.is_word,
            origin=card.origin,
        )


@dataclass(frozen=True)
class MergeOrder(MergeOptions):
    """Files and options of a merge, filled in by the page's form and the API."""

    picks: tuple[SelectedFile, ...]
    base: str = "mini"
    precision: str = "auto"  # of the base model
    prompts: str = ""  # the visitor's calibration prompts for all picks, one a line
    dtype: str = "fp16"
    words: tuple[SelectedFile, ...] = ()  # textual inversions beside the LoRAs


@dataclass(frozen=True)
class FinishedMerge:
    """A finished merge, with its files on disk."""

    order: MergeOrder
    method: str  # its title
    kohya: Path
    diffusers: Path
    words: tuple[Path, ...]  # files of the textual inversions that it needs
    trigger: str
    ranks: str
    seconds: float
    layers: int
    notes: tuple[str, ...]
    checks: tuple[str, ...]  # outcomes of reading the files back, a sentence per file
    recipe: dict[str, object]
    report: Mapping[str, object]  # a ReportData; an older version's may have other fields
    full: Path | None = None  # the file of whole differences, if there is one
    shifts: bool = False  # it changes biases or normalisations, which only the full file holds

    @property
    def drawn_with(self) -> Path:
        """The file to draw pictures with: the full one where the others lack something."""
        return self.full if self.shifts and self.full else self.kohya
