"""Several merges at once: what a visitor asks for, and what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from app.schemas.merge import MergeOrder, SelectedFile
from merging.errors import MergeError

if TYPE_CHECKING:
    from merging.batch import Row


@dataclass(frozen=True)
class BatchOrder:
    """A merge, in every one of these methods, at every combination of these strengths."""

    merge: MergeOrder
    methods: tuple[str, ...]
    strengths: tuple[tuple[float, ...], ...]  # one list for each LoRA, () for its own strength

    @property
    def count(self) -> int:
        """How many merges that is."""
        return len(self.methods) * prod(max(len(set(listed)), 1) for listed in self.strengths)


@dataclass(frozen=True)
class BatchResult:
    """A finished batch."""

    order: BatchOrder
    archive: Path
    rows: tuple[Row, ...]

    @property
    def recipe(self) -> str:
        """The name of a recipe in the zip."""
        return f"{next(row.stem for row in self.rows if not row.problem)}.json"


def strengths_of(text: str, picks: Sequence[SelectedFile]) -> tuple[tuple[float, ...], ...]:
    """ "sks-cat: 0.6, 0.8", a line for each LoRA, in any order; a LoRA without a line has its own.

    Raises MergeError for a line that is of no LoRA, or has no numbers.
    """
    listed: dict[str, tuple[float, ...]] = {}
    for line in filter(str.strip, text.splitlines()):
        name, _, numbers = (part.strip() for part in line.rpartition(":"))
        if name not in {pick.name for pick in picks}:
            raise MergeError(
                f"“{line.strip()[:60]}” is of no LoRA that is on the list and in use; write a "
                "line such as name: 0.6, 0.8, 1."
            )
        try:
            listed[name] = tuple(float(word) for word in numbers.split(","))
        except ValueError as error:
            raise MergeError(
                f"“{line.strip()[:60]}”: strengths are numbers with commas, such as 0.6, 0.8, 1."
            ) from error
    return tuple(listed.get(pick.name, ()) for pick in picks)


def strengths_text(picks: Sequence[SelectedFile]) -> str:
    """The lines to begin with: every LoRA at its own strength."""
    return "\n".join(f"{pick.name}: {pick.weighed.strength:g}" for pick in picks)
