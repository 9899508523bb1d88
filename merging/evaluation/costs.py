"""What a contestant costs on a case: stored beside its cell, for no two runs take the same time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from merging.io.atomic_write import write_whole


@dataclass(frozen=True)
class Cost:
    """Seconds, and the most memory beyond what the process had before."""

    merge_seconds: float
    merge_bytes: int | None  # None where the system does not report it
    picture_seconds: float  # of one picture, drawn in batches


def cost_file(cell: Path) -> Path:
    """Where the cost of a cell is stored."""
    return cell.with_suffix(".cost.json")


def write_cost(cell: Path, cost: Cost) -> None:
    """Store the cost beside its cell."""
    write_whole(cost_file(cell), json.dumps(asdict(cost)).encode("utf-8"))


def mean_cost(cells: Iterable[Path]) -> Cost | None:
    """The mean over the cells whose cost is known, and their largest memory; None for none."""
    files = [file for file in map(cost_file, cells) if file.is_file()]
    costs = [Cost(**json.loads(file.read_text(encoding="utf-8"))) for file in files]
    if not costs:
        return None
    sizes = [cost.merge_bytes for cost in costs if cost.merge_bytes is not None]
    return Cost(
        fmean(cost.merge_seconds for cost in costs),
        max(sizes, default=None),
        fmean(cost.picture_seconds for cost in costs),
    )
