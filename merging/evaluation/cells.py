"""One cell of the benchmark: a contestant on a case, from its LoRAs to the scores of its pictures.

A cell is a file named by the hash of all that decides it, so that an interrupted run goes on where
it stopped and nothing is computed twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import groupby
from pathlib import Path

from PIL import Image
from torch import Tensor

from merging import formats
from merging.adapter import Adapter
from merging.base_models import MINI
from merging.diffusion.base import Base
from merging.diffusion.render import render
from merging.errors import MergeError
from merging.evaluation.cases import ALONE, Ask, Case, Concept, article
from merging.evaluation.contact_sheets import SHEET_COLUMNS, strip
from merging.evaluation.contestants import Combined
from merging.evaluation.layer_objective import layer_objective
from merging.evaluation.metrics import Scorers, Scores, scored
from merging.evaluation.variants import ENTRANTS
from merging.io.atomic_write import write_whole
from merging.io.files import file_sha256
from merging.io.png import save_png
from merging.options import Compose
from merging.runtime.progress import Progress, part, silent
from merging.scoring.references import open_reference

LIBRARY = Path(__file__).parents[1]
REFERENCES, REFERENCE_SEED = 16, 1000  # pictures by the LoRA alone, where no real ones are given


@dataclass(frozen=True)
class Arena:
    """Where all cells of a run are drawn and judged, and where they are kept."""

    base: Base
    scorers: Scorers
    folder: Path
    steps: int = 25
    guidance: float = MINI.guidance
    seen: dict[Path, Tensor] = field(default_factory=dict)  # reference embeddings by LoRA file

    def drawn(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        adapters: Sequence[tuple[Adapter, float]],
        compose: Compose = "sum",
        progress: Progress = silent,
    ) -> list[Image.Image]:
        """Pictures as the arena's settings want them."""
        return render(
            self.base,
            prompts,
            seeds,
            adapters=adapters,
            steps=self.steps,
            guidance=self.guidance,
            compose=compose,
            progress=progress,
        )


@dataclass(frozen=True)
class Cell:
    """What came of it: the scores of each ask, or why there are none."""

    scores: tuple[Scores, ...] = ()
    objective: float | None = None  # of the layers; None where nothing was merged
    failed: str = ""


def cell(arena: Arena, key: str, case: Case, progress: Progress) -> Cell:
    """The cell from its file, or computed and kept; a refusal is an outcome too."""
    name = cell_name(arena, key, case)
    file = arena.folder / "cells" / f"{name}.json"
    if file.is_file():
        kept = json.loads(file.read_text(encoding="utf-8"))
        return Cell(tuple(kept["scores"]), kept["objective"], kept["failed"])
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        found, images = _computed(arena, key, case, progress)
        save_png(strip(images[:SHEET_COLUMNS]), file.with_suffix(".png"))
    except MergeError as error:
        found = Cell(failed=str(error))
    told = {"contestant": key, "case": case.name, **asdict(found)}
    write_whole(file, json.dumps(told, indent=1).encode("utf-8"))
    return found


def cell_name(arena: Arena, key: str, case: Case) -> str:
    """Hash of the contestant, the case, the files, the settings, the judges and the library."""
    told = {
        "contestant": [key, ENTRANTS[key].title, ENTRANTS[key].options],
        "asks": [asdict(ask) for ask in case.asks],
        "triggers": case.triggers,
        "files": [file_sha256(file) for each in case.concepts for file in _files(each)],
        "base": [arena.base.name, arena.base.fingerprint],
        "settings": [arena.steps, arena.guidance],
        "judges": arena.scorers.fingerprint,
        "library": _library(),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode("utf-8")).hexdigest()[:16]


def _computed(
    arena: Arena, key: str, case: Case, progress: Progress
) -> tuple[Cell, list[Image.Image]]:
    """The LoRAs combined, drawn with and judged."""
    contestant = ENTRANTS[key]
    adapters = [_adapter(arena.base, concept) for concept in case.concepts]
    ways = contestant.combine(arena.base, adapters, part(progress, 0.0, 0.3))
    images = _pictures(arena, contestant.compose, case, ways, part(progress, 0.3, 0.85))
    scores = scored(arena.scorers, case, images, _references(arena, case))
    missed = None
    if contestant.merges:
        [[(answer, _)]] = ways
        missed = layer_objective(arena.base, adapters, answer, part(progress, 0.85, 1.0))
    return Cell(tuple(scores), missed), images


def _pictures(
    arena: Arena, compose: Compose, case: Case, ways: Combined, progress: Progress
) -> list[Image.Image]:
    """One picture per ask, drawn together where they are drawn with the same adapters."""
    places = [_way(case, ask) % len(ways) for ask in case.asks]
    drawn: dict[int, Image.Image] = {}
    for way, group in groupby(
        sorted(range(len(places)), key=places.__getitem__), places.__getitem__
    ):
        rows = list(group)
        ahead = part(progress, way / len(ways), (way + 1) / len(ways))
        prompts, seeds = zip(*((case.asks[i].prompt, case.asks[i].seed) for i in rows), strict=True)
        images = arena.drawn(prompts, seeds, ways[way], compose, ahead)
        drawn |= dict(zip(rows, images, strict=True))
    return [drawn[i] for i in range(len(places))]


def _way(case: Case, ask: Ask) -> int:
    """The concept a picture is mostly about: the first named; for other things, each in turn."""
    return ask.seed if ask.kind == "prior" else case.triggers.index(ask.named[0])


def _adapter(base: Base, concept: Concept) -> Adapter:
    return replace(formats.read(concept.file, base.table), trigger=concept.trigger)


def _references(arena: Arena, case: Case) -> dict[str, Tensor]:
    """Unit embeddings of each concept's reference pictures, by trigger; computed once."""
    for concept in case.concepts:
        if concept.file not in arena.seen:
            arena.seen[concept.file] = arena.scorers.clip.image_embeddings(_shown(arena, concept))
    return {concept.trigger: arena.seen[concept.file] for concept in case.concepts}


def _shown(arena: Arena, concept: Concept) -> list[Image.Image]:
    """The real pictures of a concept, or what its LoRA draws alone."""
    if concept.references:
        return [open_reference(file) for file in concept.references]
    phrase = f"a house in {concept.trigger}" if concept.style else article(concept.trigger)
    prompts = [ALONE[0].format(phrase)] * REFERENCES
    seeds = range(REFERENCE_SEED, REFERENCE_SEED + REFERENCES)
    return arena.drawn(prompts, seeds, [(_adapter(arena.base, concept), 1.0)])


def _files(concept: Concept) -> tuple[Path, ...]:
    return (concept.file, *concept.references)


@cache
def _library() -> str:
    """Hash of every source file: a changed score must not meet an old picture's."""
    files = sorted(LIBRARY.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
