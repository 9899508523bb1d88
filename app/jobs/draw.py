"""What runs in the worker thread when pictures are wanted: one comparison, column by column."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from PIL import Image

from app.jobs.models import Bases
from app.jobs.panels import Panel, panels
from app.jobs.progress import Emit, stepping
from app.schemas.draw import DrawOrder, MissingScores, Picture
from merging.diffusion.base import Base
from merging.diffusion.heat_map import heat_map
from merging.diffusion.render import render
from merging.errors import MergeError
from merging.io.file_names import file_stem
from merging.io.png import save_png
from merging.options import Sampler
from merging.runtime.progress import Progress, Stop, part, saying
from merging.scoring.references import PictureScorer, build_scorer


def draw_job(bases: Bases, order: DrawOrder, folder: Path, emit: Emit, stop: Stop) -> None:
    """Draw every column from the same noise into ``folder``, emit Steps and Pictures."""
    progress = stepping(emit)
    base = bases.get(order.base, order.precision, progress)
    columns = panels(order, base)
    scorer = _scorer(bases, base, order, emit)
    for place, panel in enumerate(columns):
        title = f"Drawing {place + 1} of {len(columns)}: {panel.title}"
        ahead = part(progress, place / len(columns), (place + 1) / len(columns))
        ahead(0.0, title)
        images = _drawn(base, panel, order, saying(ahead, title), stop)
        scores = _scores(scorer, images, order)
        column = folder / f"{place}"  # two panels may have one title, as far as file names go
        column.mkdir()
        for scene, image in enumerate(images):
            emit(_saved(image, panel, order, scene, column, scores[scene]))


def _drawn(
    base: Base, panel: Panel, order: DrawOrder, progress: Progress, stop: Stop
) -> list[Image.Image]:
    """One column: a picture for every scene."""
    return render(
        base,
        [prompt for prompt, _ in order.scenes],
        [seed for _, seed in order.scenes],
        adapters=panel.adapters,
        embeddings=panel.embeddings,
        steps=order.steps,
        guidance=order.guidance,
        compose=panel.compose,
        negative=order.negative.strip(),
        sampler=cast(Sampler, order.sampler),
        size=order.size,
        phrases=order.triggers if order.maps else (),
        progress=progress,
        stop=stop,
    )


def _scorer(bases: Bases, base: Base, order: DrawOrder, emit: Emit) -> PictureScorer | None:
    """What scores the pictures, if the visitor has given any to compare with.

    Pictures are drawn without scores too: why there are none is emitted as MissingScores.
    """
    if not order.references:
        return None
    try:
        return build_scorer(bases.clip(base, stepping(emit)), order.references)
    except MergeError as error:
        emit(MissingScores(str(error)))
        return None


def _scores(scorer: PictureScorer | None, images: list[Image.Image], order: DrawOrder) -> list[str]:
    """The scores of every picture as its caption has them, "" without a scorer."""
    if scorer is None:
        return [""] * len(images)
    return list(map(str, scorer.score(images, [prompt for prompt, _ in order.scenes])))


def _saved(
    image: Image.Image, panel: Panel, order: DrawOrder, place: int, folder: Path, scores: str
) -> Picture:
    """The picture on disk, its maps beside it, its scores in the caption."""
    caption = " · ".join(filter(None, [_caption(panel, order, place), scores]))
    if panel.recipe:
        image.info["recipe"] = panel.recipe
    stem = file_stem("iteris", [panel.title, f"{place}", f"seed {order.scenes[place][1]}"])
    path = folder / f"{stem}.png"
    save_png(image, path)
    maps = []
    for i, (phrase, looks) in enumerate(image.info.get("maps", {}).items()):
        beside = folder / f"{stem}_map-{i}.png"
        save_png(heat_map(image, looks), beside)
        maps.append((phrase, beside))
    return Picture(path, caption, tuple(maps))


def _caption(panel: Panel, order: DrawOrder, place: int) -> str:
    """The panel's title, and of several pictures which one."""
    prompt, seed = order.scenes[place]
    parts = [panel.title]
    if len(order.prompts) > 1:
        parts.append(f"prompt {order.prompts.index(prompt) + 1}")
    if order.count > 1:
        parts.append(f"seed {seed}")
    return " · ".join(parts)
