"""Pictures: the visitor's order and the result, as plain data between page and service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from merging.base_models import MINI
from merging.diffusion.compose import COMPOSITIONS
from merging.io.regions import Region
from merging.text.phrases import phrases_in
from merging.text.syntax import plain_text

# Columns of a comparison, in the order in which they are drawn; those of COMPOSED come before the
# merge. Loading all LoRAs together is exactly their plain sum, so there is one column for both.
COLUMNS = {
    "base": "Base model",
    "each": "Each LoRA alone",
    "sum": "All loaded together (plain sum)",
    "merged": "The merge",
}
COMPOSED = {name: row for name, row in COMPOSITIONS.items() if name not in COLUMNS}
OTHER = "other"  # the column of an earlier merge
USUAL = ("base", "each", "sum", "merged")


@dataclass(frozen=True)
class OtherMerge:
    """An earlier merge, drawn as a column beside the current one."""

    entry: int  # its number in the history
    title: str
    path: Path  # its adapter file
    base: str  # its base model
    words: tuple[Path, ...] = ()  # files of the textual inversions that it needs

    @property
    def embeddings(self) -> tuple[SelectedFile, ...]:
        """Its textual inversions, under their own words."""
        return tuple(SelectedFile(path, path.stem, is_word=True) for path in self.words)


SEEDS = 2  # of a prompt with the embedded base, which draws it quickly on any machine


@dataclass(frozen=True)
class DrawOrder:
    """Pictures to draw: every prompt, with every seed, in every column."""

    picks: tuple[SelectedFile, ...]
    prompt: str  # one or several, one per line
    base: str = MINI.name
    merged: Path | None = None  # the adapter file of the merge; without it, no such column
    method: str = ""  # title of the merge's method
    seed: int = 0  # of the first picture
    steps: int = 25
    guidance: float = MINI.guidance
    count: int = 1  # pictures per prompt, seed by seed
    negative: str = ""
    sampler: str = "DDIM"
    size: str = ""  # WIDTHxHEIGHT in pixels, "" for the base's own
    clip_skip: int = 1  # as A1111 counts: 2 leaves out the text encoder's last layer
    columns: tuple[str, ...] = USUAL  # names of COLUMNS and COMPOSED
    words: tuple[SelectedFile, ...] = ()  # textual inversions for the prompts
    previews: bool = False  # send rough pictures while a step takes long
    judged: bool = False  # say which concepts are in the pictures, once all are drawn
    maps: bool = False  # also draw a heat map for every trigger
    precision: str = "auto"  # of the base model
    others: tuple[OtherMerge, ...] = ()  # earlier merges, a column per merge
    regions: tuple[Region, ...] = ()  # for columns that need them

    @property
    def prompts(self) -> list[str]:
        """The lines of ``prompt`` without blank ones."""
        return [line.strip() for line in self.prompt.splitlines() if line.strip()]

    @property
    def scenes(self) -> list[tuple[str, int]]:
        """Every prompt with every seed."""
        seeds = range(self.seed, self.seed + self.count)
        return [(prompt, seed) for prompt in self.prompts for seed in seeds]

    @property
    def rounds(self) -> list[range]:
        """The positions of the scenes that are drawn together: the first one is ready soon."""
        count = len(self.scenes)
        return [scenes for scenes in (range(1), range(1, count)) if scenes]

    def arranged(self, pictures: Sequence[Picture]) -> list[Picture]:
        """The pictures column by column, in whatever order they were drawn."""
        columns = ["base", "each", "sum", *COMPOSED, "merged", OTHER]
        titles = list(dict.fromkeys(picture.title for picture in pictures))

        def place(picture: Picture) -> tuple[int, int, int]:
            scene = self.scenes.index((picture.prompt, picture.seed))
            return columns.index(picture.column), titles.index(picture.title), scene

        return sorted(pictures, key=place)

    @property
    def column_count(self) -> int:
        """The number of columns; "each" has one per LoRA."""
        count = sum(len(self.picks) if name == "each" else 1 for name in self.columns)
        return count + len(self.others)

    @property
    def of_the_merge(self) -> range:
        """The positions of the merge's pictures, which come before those of other merges."""
        if self.merged is None or "merged" not in self.columns:
            return range(0)
        columns_before = sum(len(self.picks) if name == "each" else 1 for name in self.columns) - 1
        count = len(self.scenes)
        return range(columns_before * count, (columns_before + 1) * count)

    @property
    def references(self) -> dict[str, tuple[Path, ...]]:
        """Concept → the visitor's reference pictures of it, for the scores."""
        pictures: dict[str, tuple[Path, ...]] = {}
        for pick in self.picks:
            if pick.references:
                name = pick.trigger or pick.name
                pictures[name] = (*pictures.get(name, ()), *pick.references)
        return pictures

    @property
    def triggers(self) -> list[str]:
        """The trigger phrases that get heat maps, without syntax."""
        return list(dict.fromkeys(plain_text(pick.trigger) for pick in self.picks if pick.trigger))

    def triggers_in(self, prompt: str) -> list[str]:
        """The triggers that a prompt names."""
        return phrases_in(plain_text(prompt), self.triggers)


@dataclass(frozen=True)
class Preview:
    """A picture that is being drawn, as far as it can be guessed: small, with rough colours."""

    picture: Picture


@dataclass(frozen=True)
class ComparisonOrder:
    """A merge, and the pictures that are drawn before it and after it."""

    merge: MergeOrder
    scene: DrawOrder  # with all columns; its merge does not exist yet

    @property
    def before(self) -> DrawOrder:
        """The columns that need no merge."""
        columns = tuple(name for name in self.scene.columns if name != "merged")
        return replace(self.scene, columns=columns, merged=None, others=())

    def drawn(self, merged: FinishedMerge) -> DrawOrder:
        """All columns, now that there is the merge."""
        return replace(self.scene, merged=merged.drawn_with, method=merged.method)

    def after(self, merged: FinishedMerge) -> DrawOrder:
        """The merge's column, and those of earlier merges."""
        columns = tuple(name for name in self.scene.columns if name == "merged")
        return replace(self.drawn(merged), columns=columns)

    @property
    def columns_before(self) -> int:
        """The number of columns that are drawn before the merge."""
        return self.before.column_count

    @property
    def columns_after(self) -> int:
        """The number of columns that are drawn after the merge."""
        return ("merged" in self.scene.columns) + len(self.scene.others)


@dataclass(frozen=True)
class MissingScores:
    """Why the pictures have no scores although there are reference pictures."""

    why: str


@dataclass(frozen=True)
class MissingVerdict:
    """Why it cannot be told which concepts are in the pictures."""

    why: str


@dataclass(frozen=True)
class Picture:
    """One picture on disk."""

    path: Path
    caption: str
    maps: tuple[tuple[str, Path], ...] = ()  # trigger → its heat map
    column: str = ""  # of COLUMNS, or "other" for an earlier merge
    title: str = ""  # of the column; "each" has a title per LoRA
    prompt: str = ""
    seed: int = 0
    found: tuple[tuple[str, bool], ...] = ()  # trigger in the prompt → whether it is in the picture


DrawItem = Picture | Preview | MissingScores | MissingVerdict  # what a drawing yields
