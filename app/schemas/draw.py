"""What a visitor wants drawn and what comes back: plain data between the page and the service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from app.schemas.merge import SelectedFile
from merging.base_models import MINI

# What may stand beside the merge, in the order in which it is drawn. Loading all LoRAs together is
# their plain sum, exactly, so there is one column for both.
COLUMNS = {
    "base": "Base model",
    "each": "Each LoRA alone",
    "sum": "All loaded together (plain sum)",
    "gated": "Each in its own place (gated, no merge)",
    "merged": "The merge",
}
USUAL = ("base", "each", "sum", "merged")


@dataclass(frozen=True)
class OtherMerge:
    """A merge of before, drawn as a column beside the one of now."""

    entry: int  # of the history
    title: str
    path: Path  # its adapter file
    base: str  # the base that it was made with
    words: tuple[Path, ...] = ()  # files of the textual inversions that it needs

    @property
    def embeddings(self) -> tuple[SelectedFile, ...]:
        """Its textual inversions, under their own words."""
        return tuple(SelectedFile(path, path.stem, is_word=True) for path in self.words)


@dataclass(frozen=True)
class DrawOrder:
    """Pictures to draw: every prompt, with every seed, in every column."""

    picks: tuple[SelectedFile, ...]
    prompt: str  # several, one a line
    base: str = MINI.name
    merged: Path | None = None  # the adapter file of the merge; without it, no such column
    method: str = ""  # title of the method that made it
    seed: int = 0  # of the first picture
    steps: int = 25
    guidance: float = MINI.guidance
    count: int = 1  # pictures per prompt, seed by seed
    negative: str = ""
    sampler: str = "DDIM"
    size: str = ""  # WIDTHxHEIGHT in pixels, "" for the base's own
    columns: tuple[str, ...] = USUAL
    words: tuple[SelectedFile, ...] = ()  # textual inversions that the prompts may say
    maps: bool = False  # also where each trigger was looked at
    precision: str = "auto"  # of the base model
    others: tuple[OtherMerge, ...] = ()  # merges of before, a column each

    @property
    def prompts(self) -> list[str]:
        """One a line, blank lines left out."""
        return [line.strip() for line in self.prompt.splitlines() if line.strip()]

    @property
    def scenes(self) -> list[tuple[str, int]]:
        """Every prompt with every seed."""
        seeds = range(self.seed, self.seed + self.count)
        return [(prompt, seed) for prompt in self.prompts for seed in seeds]

    @property
    def of_the_merge(self) -> range:
        """The places of the merge's own pictures: the last ones but for those of other merges."""
        if self.merged is None or "merged" not in self.columns:
            return range(0)
        before = sum(len(self.picks) if name == "each" else 1 for name in self.columns) - 1
        count = len(self.scenes)
        return range(before * count, (before + 1) * count)

    @property
    def references(self) -> dict[str, tuple[Path, ...]]:
        """Concept → the pictures of it that the visitor has given, for the scores."""
        found: dict[str, tuple[Path, ...]] = {}
        for pick in self.picks:
            if pick.references:
                name = pick.trigger or pick.name
                found[name] = (*found.get(name, ()), *pick.references)
        return found

    @property
    def triggers(self) -> list[str]:
        """The words whose maps are drawn."""
        return list(dict.fromkeys(pick.trigger for pick in self.picks if pick.trigger))


@dataclass(frozen=True)
class MissingScores:
    """Why the pictures have no scores, though they were asked for."""

    why: str


@dataclass(frozen=True)
class Picture:
    """One picture on disk."""

    path: Path
    caption: str
    maps: tuple[tuple[str, Path], ...] = ()  # trigger → where it was looked at
