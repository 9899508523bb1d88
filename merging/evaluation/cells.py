"""One cell of the benchmark's table: a contestant on a case, from the LoRAs to the scores.

A cell is stored in a file named by the hash of all its inputs, so that an interrupted run goes on
where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import time
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
from merging.calibration.prompts import is_style
from merging.diffusion.base import Base
from merging.diffusion.compose import COMPOSITIONS
from merging.diffusion.render import render
from merging.errors import MergeError
from merging.evaluation.cases import ALONE, Case, Concept, PictureTask, article
from merging.evaluation.contact_sheets import SHEET_COLUMNS, strip
from merging.evaluation.contestants import AdapterSets
from merging.evaluation.costs import Cost, write_cost
from merging.evaluation.layer_objective import layer_objective
from merging.evaluation.metrics import Scorers, Scores, score_pictures
from merging.evaluation.variants import ENTRANTS
from merging.io.atomic_write import write_whole
from merging.io.files import file_sha256
from merging.io.png import save_png
from merging.io.regions import Region
from merging.runtime.phases import watching_peak
from merging.runtime.progress import Progress, part, silent
from merging.scoring.references import open_reference

SOURCES = Path(__file__).parents[1]
REFERENCES, REFERENCE_SEED = (
    16,
    1000,
)  # pictures drawn with the LoRA alone, if the case has no real ones


@dataclass(frozen=True)
class Arena:
    """What all cells of a run share: the base, the scorers, the settings and the folder."""

    base: Base
    scorers: Scorers
    folder: Path
    steps: int = 25
    guidance: float = MINI.guidance
    references: dict[Path, Tensor] = field(default_factory=dict)  # LoRA file → embeddings

    def draw(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        adapters: Sequence[tuple[Adapter, float]],
        compose: str = "sum",
        progress: Progress = silent,
        regions: Sequence[Region] = (),
    ) -> list[Image.Image]:
        """Pictures with the settings of the run."""
        return render(
            self.base,
            prompts,
            seeds,
            adapters=adapters,
            steps=self.steps,
            guidance=self.guidance,
            compose=compose,
            regions=regions,
            progress=progress,
        )


@dataclass(frozen=True)
class CellResult:
    """The scores of a cell's pictures, or the reason why there are none."""

    scores: tuple[Scores, ...] = ()
    objective: float | None = None  # of the layers; None if nothing was merged
    failed: str = ""


def compute_cell(arena: Arena, key: str, case: Case, progress: Progress) -> CellResult:
    """Read a cell from its file, or compute and store it; a MergeError is stored as the reason."""
    file = cell_file(arena, key, case)
    if file.is_file():
        row = json.loads(file.read_text(encoding="utf-8"))
        return CellResult(tuple(row["scores"]), row["objective"], row["failed"])
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        result, images, cost = _compute(arena, key, case, progress)
        write_cost(file, cost)
        save_png(strip(images[:SHEET_COLUMNS]), file.with_suffix(".png"))
    except MergeError as error:
        result = CellResult(failed=str(error))
    row = {"contestant": key, "case": case.name, **asdict(result)}
    write_whole(file, json.dumps(row, indent=1).encode("utf-8"))
    return result


def cell_file(arena: Arena, key: str, case: Case) -> Path:
    """Where a cell is stored; its strip of pictures lies beside it."""
    return arena.folder / "cells" / f"{cell_name(arena, key, case)}.json"


def cell_name(arena: Arena, key: str, case: Case) -> str:
    """Hash of the contestant, the case, the files, the settings, the scorers and the sources."""
    inputs = {
        "contestant": [key, ENTRANTS[key].title, ENTRANTS[key].options],
        "asks": [asdict(task) for task in case.tasks],
        "triggers": case.triggers,
        "files": [file_sha256(file) for concept in case.concepts for file in _files(concept)],
        "base": [arena.base.name, arena.base.fingerprint],
        "settings": [arena.steps, arena.guidance],
        "judges": arena.scorers.fingerprint,
        "library": _source_hash(),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode("utf-8")).hexdigest()[:16]


def _compute(
    arena: Arena, key: str, case: Case, progress: Progress
) -> tuple[CellResult, list[Image.Image], Cost]:
    """Combine the LoRAs, draw the pictures and score them."""
    contestant = ENTRANTS[key]
    adapters = [read_concept(arena.base, concept) for concept in case.concepts]
    started = time.perf_counter()
    with watching_peak() as memory:
        adapter_sets = contestant.combine(arena.base, adapters, part(progress, 0.0, 0.3))
    combined = time.perf_counter()
    images = _draw_pictures(
        arena, contestant.compose, case, adapter_sets, part(progress, 0.3, 0.85)
    )
    drawing = (time.perf_counter() - combined) / max(1, len(images))
    cost = Cost(combined - started, memory.most, drawing)
    scores = score_pictures(arena.scorers, case, images, _references(arena, case))
    objective = None
    if contestant.merges:
        [[(merged, _)]] = adapter_sets
        objective = layer_objective(arena.base, adapters, merged, part(progress, 0.85, 1.0))
    return CellResult(tuple(scores), objective), images, cost


def _draw_pictures(
    arena: Arena, compose: str, case: Case, adapter_sets: AdapterSets, progress: Progress
) -> list[Image.Image]:
    """One picture per task, drawn in batches of the same adapters."""
    if "regions" in COMPOSITIONS[compose].needs:
        return _draw_in_stripes(arena, compose, case, adapter_sets[0], progress)
    indices = [_adapter_set_index(case, task) % len(adapter_sets) for task in case.tasks]
    images: dict[int, Image.Image] = {}
    for index, group in groupby(
        sorted(range(len(indices)), key=indices.__getitem__), indices.__getitem__
    ):
        rows = list(group)
        group_progress = part(progress, index / len(adapter_sets), (index + 1) / len(adapter_sets))
        prompts = [case.tasks[i].prompt for i in rows]
        seeds = [case.tasks[i].seed for i in rows]
        drawn = arena.draw(prompts, seeds, adapter_sets[index], compose, group_progress)
        images |= dict(zip(rows, drawn, strict=True))
    return [images[i] for i in range(len(indices))]


def _draw_in_stripes(
    arena: Arena,
    compose: str,
    case: Case,
    adapters: Sequence[tuple[Adapter, float]],
    progress: Progress,
) -> list[Image.Image]:
    """One picture per task; the things of a prompt stand side by side, and no other LoRA acts."""
    images = []
    for place, task in enumerate(case.tasks):
        named = [pair for pair in adapters if pair[0].trigger in task.named]
        regions = stripes([name for name in task.named if name in case.triggers])
        images += arena.draw(
            [task.prompt], [task.seed], named, compose if regions else "sum", regions=regions
        )
        progress((place + 1) / len(case.tasks), f"picture {place + 1} of {len(case.tasks)}")
    return images


def stripes(triggers: Sequence[str]) -> list[Region]:
    """Upright boxes of equal width for the things among the triggers, from left to right."""
    things = [name for name in triggers if not is_style(name)]
    count = len(things)
    return [Region(name, (i / count, 0.0, (i + 1) / count, 1.0)) for i, name in enumerate(things)]


def _adapter_set_index(case: Case, task: PictureTask) -> int:
    """Index of the concept that is named first in the prompt; prior pictures take them in turn."""
    return task.seed if task.kind == "prior" else case.triggers.index(task.named[0])


def read_concept(base: Base, concept: Concept) -> Adapter:
    """The LoRA of a concept, with the trigger of the case."""
    return replace(formats.read(concept.file, base.table), trigger=concept.trigger)


def _references(arena: Arena, case: Case) -> dict[str, Tensor]:
    """Unit embeddings of each concept's reference pictures, by trigger; computed once."""
    for concept in case.concepts:
        if concept.file not in arena.references:
            pictures = _reference_pictures(arena, concept)
            arena.references[concept.file] = arena.scorers.clip.image_embeddings(pictures)
    return {concept.trigger: arena.references[concept.file] for concept in case.concepts}


def _reference_pictures(arena: Arena, concept: Concept) -> list[Image.Image]:
    """The real pictures of a concept, or what its LoRA draws alone."""
    if concept.references:
        return [open_reference(file) for file in concept.references]
    phrase = f"a house in {concept.trigger}" if concept.style else article(concept.trigger)
    prompts = [ALONE[0].format(phrase)] * REFERENCES
    seeds = range(REFERENCE_SEED, REFERENCE_SEED + REFERENCES)
    return arena.draw(prompts, seeds, [(read_concept(arena.base, concept), 1.0)])


def _files(concept: Concept) -> tuple[Path, ...]:
    return (concept.file, *concept.references)


@cache
def _source_hash() -> str:
    """Hash of all source files: scores of other versions are not reused."""
    files = sorted(SOURCES.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
