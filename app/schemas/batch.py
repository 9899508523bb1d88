"""Several merges at once: the visitor's order, and its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.schemas.draw import DrawOrder, Picture
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from merging.errors import MergeError

if TYPE_CHECKING:
    from merging.batch import BatchRow


@dataclass(frozen=True)
class BatchOrder:
    """A merge by every method, at every combination of strengths."""

    merge: MergeOrder
    methods: tuple[str, ...]
    strengths: tuple[tuple[float, ...], ...]  # a list per LoRA; () is the LoRA's own strength
    varied: tuple[tuple[str, tuple[Any, ...]], ...] = ()  # further options and their values
    scene: DrawOrder | None = None  # draws every merge with its first prompt and seed

    @property
    def count(self) -> int:
        """The number of merges."""
        lists = [*self.strengths, *(values for _, values in self.varied)]
        return len(self.methods) * prod(max(len(set(values)), 1) for values in lists)

    def drawn(self, merged: FinishedMerge) -> DrawOrder | None:
        """The picture of one of the merges, as an order of its own."""
        if self.scene is None:
            return None
        return replace(
            self.scene,
            picks=merged.order.picks,
            prompt=self.scene.prompts[0],
            merged=merged.drawn_with,
            method=merged.method,
            count=1,
            columns=("merged",),
            others=(),
        )


@dataclass(frozen=True)
class BatchCell:
    """A merge of a batch that was drawn: a cell of the matrix, by its labels."""

    column: str
    row: str
    picture: Picture


@dataclass(frozen=True)
class BatchResult:
    """A finished batch."""

    order: BatchOrder
    archive: Path
    rows: tuple[BatchRow, ...]
    cells: tuple[BatchCell, ...] = ()  # of the merges that were drawn
    matrix: Path | None = None  # all pictures as one PNG

    @property
    def recipe(self) -> str:
        """The name of a recipe in the zip."""
        return f"{next(row.stem for row in self.rows if not row.problem)}.json"


def strengths_of(text: str, picks: Sequence[SelectedFile]) -> tuple[tuple[float, ...], ...]:
    """Read lines such as "sks-cat: 0.6, 0.8", in any order; () for a LoRA without a line.

    Raises MergeError for a line without the name of a LoRA, or without numbers.
    """
    values: dict[str, tuple[float, ...]] = {}
    for line in filter(str.strip, text.splitlines()):
        name, _, numbers = (part.strip() for part in line.rpartition(":"))
        if name not in {pick.name for pick in picks}:
            raise MergeError(
                f"“{line.strip()[:60]}” begins with no name of a LoRA in use; write a "
                "line such as name: 0.6, 0.8, 1."
            )
        try:
            values[name] = tuple(float(number) for number in numbers.split(","))
        except ValueError as error:
            raise MergeError(
                f"“{line.strip()[:60]}”: strengths are numbers with commas, such as 0.6, 0.8, 1."
            ) from error
    return tuple(values.get(pick.name, ()) for pick in picks)


def strengths_text(picks: Sequence[SelectedFile]) -> str:
    """The lines at first: every LoRA at its own strength."""
    return "\n".join(f"{pick.name}: {pick.lora_input.strength:g}" for pick in picks)
