"""The draw job: a comparison in the worker thread."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from PIL import Image
from torch import Tensor

from app.jobs.judging import Judging, judging_stages
from app.jobs.models import Bases
from app.jobs.panels import Panel, panels
from app.jobs.progress import Emit, report_steps
from app.jobs.timing.pace import Measured, Stage, pace_key
from app.jobs.timing.timetable import Timetable
from app.schemas.draw import DrawOrder, MissingScores, Picture, Preview
from merging.diffusion.base import Base
from merging.diffusion.compose import COMPOSITIONS
from merging.diffusion.heat_map import heat_map
from merging.diffusion.preview import OnEstimate
from merging.diffusion.render import render
from merging.errors import MergeError
from merging.io.file_names import file_stem
from merging.io.png import save_png
from merging.options import Sampler
from merging.runtime.progress import Progress, Stop, prefixed
from merging.scoring.references import PictureScorer, build_scorer

PREVIEW_SECONDS = 0.5  # of a step, from which on its picture is shown
# What a picture takes among others, beside one by itself: between half of it, for the embedded base
# on one core, and all of it, for large pictures.
TOGETHER = 0.75


def draw_job(bases: Bases, order: DrawOrder, folder: Path, emit: Emit, stop: Stop) -> None:
    """Draw every column from the same noise into ``folder``, emit Steps and Pictures."""
    base = bases.get(order.base, order.precision, report_steps(emit))
    columns = panels(order, base)
    scorer = load_scorer(bases, base, order, emit)
    timetable = Timetable(emit, drawing_stages(order, len(columns)))
    total = len(columns) * len(order.scenes)
    drawer = Drawer(bases, base, scorer, folder, total, timetable, emit, stop)
    for scenes in order.rounds:
        drawer.draw(order, columns, scenes)
    drawer.judge(order)
    emit(Measured(pace_key(order), timetable.end()))


def drawing_stages(order: DrawOrder, columns: int) -> list[Stage]:
    """The stages of drawing alone."""
    rounds = (round_stages(order, columns, scenes) for scenes in order.rounds)
    return [*itertools.chain.from_iterable(rounds), *judging_stages(order)]


def round_stages(order: DrawOrder, columns: int, scenes: range) -> list[Stage]:
    """The stages in which these scenes of so many columns are drawn, a stage per column.

    Costs are in predictions of the UNet for one latent by itself.
    """
    picture = order.steps * (2 if order.guidance > 1 else 1)
    share = TOGETHER if len(scenes) > 1 else 1.0
    return [Stage("drawing", share * len(scenes) * picture)] * columns


def load_scorer(bases: Bases, base: Base, order: DrawOrder, emit: Emit) -> PictureScorer | None:
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


@dataclass
class Drawer:
    """Draws scenes of columns, and counts the pictures."""

    bases: Bases
    base: Base
    scorer: PictureScorer | None
    folder: Path
    total: int  # pictures of the whole job
    timetable: Timetable
    emit: Emit
    stop: Stop
    pictures: list[Picture] = field(default_factory=list)  # all that were drawn

    def draw(self, order: DrawOrder, columns: Sequence[Panel], scenes: range) -> None:
        """Draw and emit these scenes of every column."""
        for panel in columns:
            self._draw_scenes(order, panel, scenes)

    def judge(self, order: DrawOrder) -> None:
        """Emit the pictures again, with what was found in them, if that was asked for."""
        Judging(self.base, order, self.pictures, self.timetable, self.emit, self.stop).run()

    def _draw_scenes(self, order: DrawOrder, panel: Panel, scenes: range) -> None:
        """Some scenes of one column, together."""
        title = f"Drawing {len(self.pictures) + 1} of {self.total}: {panel.title}"
        progress = self.timetable.next_stage()
        progress(0.0, title)
        watch = self._previews(order, panel, scenes) if order.previews else None
        images = _render(
            self.base, panel, order, scenes, prefixed(progress, title), self.stop, watch
        )
        scores = _scores(self.scorer, images, [order.scenes[place][0] for place in scenes])
        column = self.folder / f"{len(self.pictures)}"  # two titles may give the same file name
        column.mkdir(parents=True)
        for place, image, score in zip(scenes, images, scores, strict=True):
            self.pictures.append(_save_picture(image, panel, order, place, column, score))
            self.emit(self.pictures[-1])

    def _previews(self, order: DrawOrder, panel: Panel, places: range) -> OnEstimate:
        """Emit Previews of these scenes, once a step takes long enough."""
        watched, steps = [time.monotonic()], itertools.count()

        def show(latents: Tensor, first: int) -> None:
            before, watched[0] = watched[0], time.monotonic()
            if watched[0] - before < PREVIEW_SECONDS:
                return
            images = self.bases.previewer(self.base).pictures(latents)
            folder = self.folder / "previews" / f"{len(self.pictures)}-{next(steps)}"
            folder.mkdir(parents=True)
            for image, place in zip(images, places[first:], strict=False):
                self.emit(Preview(_save_picture(image, panel, order, place, folder, "")))

        return show


def _render(
    base: Base,
    panel: Panel,
    order: DrawOrder,
    places: range,
    progress: Progress,
    stop: Stop,
    on_estimate: OnEstimate | None,
) -> list[Image.Image]:
    """The pictures of some scenes of one column."""
    scenes = [order.scenes[place] for place in places]
    return render(
        base,
        [prompt for prompt, _ in scenes],
        [seed for _, seed in scenes],
        adapters=panel.adapters,
        embeddings=panel.embeddings,
        steps=order.steps,
        guidance=order.guidance,
        compose=panel.compose,
        negative=order.negative.strip(),
        sampler=cast(Sampler, order.sampler),
        size=order.size,
        clip_skip=order.clip_skip,
        phrases=order.triggers if order.maps else (),
        regions=order.regions if "regions" in COMPOSITIONS[panel.compose].needs else (),
        progress=progress,
        stop=stop,
        on_estimate=on_estimate,
    )


def _scores(
    scorer: PictureScorer | None, images: list[Image.Image], prompts: Sequence[str]
) -> list[str]:
    """The scores of every picture as text for its caption, "" without a scorer."""
    if scorer is None:
        return [""] * len(images)
    return list(map(str, scorer.score(images, prompts)))


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
