"""The draw job: a comparison in the worker thread, column by column."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from PIL import Image

from app.jobs.models import Bases
from app.jobs.panels import Panel, panels
from app.jobs.progress import Emit, report_steps
from app.schemas.draw import DrawOrder, MissingScores, Picture
from merging.diffusion.base import Base
from merging.diffusion.compose import COMPOSITIONS
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
    progress = report_steps(emit)
    base = bases.get(order.base, order.precision, progress)
    columns = panels(order, base)
    scorer = _scorer(bases, base, order, emit)
    for place, panel in enumerate(columns):
        title = f"Drawing {place + 1} of {len(columns)}: {panel.title}"
        column_progress = part(progress, place / len(columns), (place + 1) / len(columns))
        column_progress(0.0, title)
        images = _draw_column(base, panel, order, saying(column_progress, title), stop)
        scores = _scores(scorer, images, order)
        column = folder / f"{place}"  # two titles may give the same file name
        column.mkdir()
        for scene, image in enumerate(images):
            emit(_save_picture(image, panel, order, scene, column, scores[scene]))


def _draw_column(
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
        regions=order.regions if "regions" in COMPOSITIONS[panel.compose].needs else (),
        progress=progress,
        stop=stop,
    )


def _scorer(bases: Bases, base: Base, order: DrawOrder, emit: Emit) -> PictureScorer | None:
    """The scorer, if there are reference pictures.

    Where CLIP cannot be loaded, MissingScores is emitted and pictures are drawn without scores.
    """
    if not order.references:
        return None
    try:
        return build_scorer(bases.clip(base, report_steps(emit)), order.references)
    except MergeError as error:
        emit(MissingScores(str(error)))
        return None


def _scores(scorer: PictureScorer | None, images: list[Image.Image], order: DrawOrder) -> list[str]:
    """The scores of every picture as text for its caption, "" without a scorer."""
    if scorer is None:
        return [""] * len(images)
    return list(map(str, scorer.score(images, [prompt for prompt, _ in order.scenes])))


def _save_picture(
    image: Image.Image, panel: Panel, order: DrawOrder, place: int, folder: Path, scores: str
) -> Picture:
    """Save a picture and its heat maps; its scores are in the caption."""
    caption = " · ".join(filter(None, [_caption(panel, order, place), scores]))
    if panel.recipe:
        image.info["recipe"] = panel.recipe
    stem = file_stem("iteris", [panel.title, f"{place}", f"seed {order.scenes[place][1]}"])
    path = folder / f"{stem}.png"
    save_png(image, path)
    maps = []
    for i, (phrase, attention) in enumerate(image.info.get("maps", {}).items()):
        map_path = folder / f"{stem}_map-{i}.png"
        save_png(heat_map(image, attention), map_path)
        maps.append((phrase, map_path))
    prompt, seed = order.scenes[place]
    return Picture(path, caption, tuple(maps), panel.column, panel.title, prompt, seed)


def _caption(panel: Panel, order: DrawOrder, place: int) -> str:
    """The panel's title, with prompt and seed where there are several."""
    prompt, seed = order.scenes[place]
    parts = [panel.title]
    if len(order.prompts) > 1:
        parts.append(f"prompt {order.prompts.index(prompt) + 1}")
    if order.count > 1:
        parts.append(f"seed {seed}")
    return " · ".join(parts)
