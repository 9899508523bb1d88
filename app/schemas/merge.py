"""What a visitor asks for and what comes back: plain data between the page and the service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.schemas.card import Card
from merging.options import MergeOptions

if TYPE_CHECKING:
    from merging.lora_file import Input


@dataclass(frozen=True)
class SelectedFile:
    """One file of a job, as the visitor set it: a LoRA, or a textual inversion."""

    path: Path
    name: str
    strength: float = 1.0
    trigger: str = ""
    text_encoder: float | None = None  # strength of this part, in the whole's place
    unet: float | None = None
    blocks: str = ""  # preset or list of block weights, "" for none
    prompts: tuple[str, ...] = ()  # calibration prompts of the visitor's own
    on: bool = True  # off: on the list, but in no merge
    is_word: bool = False  # a textual inversion, and its trigger the word that prompts say
    origin: str = ""  # owner/repo/file@commit where it is from the Hub
    references: tuple[Path, ...] = ()  # pictures of the real thing, for the scores alone

    @property
    def weighed(self) -> Input:
        """The file and its strengths, exactly as FILE@… of the command line means them."""
        from merging.lora_file import weighed  # it imports torch, which the page does without

        return weighed(
            self.path, self.strength, self.text_encoder, self.unet, self.blocks.strip() or None
        )

    @classmethod
    def of(cls, found: Card) -> SelectedFile:
        """A file as it comes: full strength, its own trigger."""
        return cls(
            found.path,
            found.name,
            trigger=found.trigger,
            is_word=found.is_word,
            origin=found.origin,
        )


@dataclass(frozen=True)
class MergeOrder(MergeOptions):
    """Everything a merge needs: the files, and the options; the page's form and the API fill it."""

    picks: tuple[SelectedFile, ...]
    base: str = "mini"
    precision: str = "auto"  # of the base model
    prompts: str = ""  # calibration prompts of the visitor's own for all picks, one a line
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
    checks: tuple[str, ...]  # what was found when the files were read back, a sentence each
    recipe: dict[str, object]
    report: Mapping[str, object]  # a ReportData; an older version's may have other fields
    full: Path | None = None  # every change whole, where the others hold less or are larger
    shifts: bool = False  # biases or normalisations are in it, which the full file alone holds

    @property
    def drawn_with(self) -> Path:
        """The file that pictures of the merge are drawn from: one that has all of it."""
        return self.full if self.shifts and self.full else self.kohya
