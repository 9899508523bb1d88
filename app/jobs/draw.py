"""What runs in the worker thread when pictures are wanted: one comparison, column by column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from PIL import Image

from app.jobs.models import Bases
from app.jobs.progress import Emit, stepping
from app.jobs.sources import Weights, source_of, words_of
from app.schemas.draw import DrawOrder, Other, Picture, Unscored
from merging import formats
from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.diffusion.heat_map import heat_map
from merging.diffusion.render import render
from merging.embedding import Embedding
from merging.errors import MergeError
from merging.formats import LayerTable
from merging.io.file_names import file_stem
from merging.io.files import RECIPE_KEY
from merging.io.png import save_png
from merging.options import Compose, Sampler
from merging.request import Source
from merging.runtime.progress import Stop, part, saying
from merging.scoring.references import Judge, judge


@dataclass(frozen=True)
class Panel:
    """One column: a title, and what is drawn with."""

    title: str
    adapters: list[tuple[Adapter, float]]
    compose: Compose = "sum"
    recipe: str = ""  # of the merge, for its pictures to carry
    words: tuple[Embedding, ...] = ()  # textual inversions that its prompts may say


def draw_job(bases: Bases, order: DrawOrder, folder: Path, emit: Emit, stop: Stop) -> None:
    """Draw every panel from the same noise into ``folder``, emit Steps and Pictures."""
    progress = stepping(emit)
    base = bases.get(order.base, order.precision, progress)
    taught = words_of(order.words, base.table)
    panels = [replace(each, words=taught) for each in _panels(order, base.weight)]
    panels += [_other(each, base.table) for each in order.others]
    prompts = [prompt for prompt, _ in order.scenes]
    judged = _judge(bases, base, order, emit)
    for done, panel in enumerate(panels):
        words = f"Drawing {done + 1} of {len(panels)}: {panel.title}"
        ahead = part(progress, done / len(panels), (done + 1) / len(panels))
        ahead(0.0, words)
        images = render(
            base,
            prompts,
            [seed for _, seed in order.scenes],
            adapters=panel.adapters,
            embeddings=panel.words,
            steps=order.steps,
            guidance=order.guidance,
            compose=panel.compose,
            negative=order.negative.strip(),
            sampler=cast(Sampler, order.sampler),
            size=order.size,
            phrases=order.triggers if order.maps else (),
            progress=saying(ahead, words),
            stop=stop,
        )
        fits = judged.fits(images, prompts) if judged else []
        own = folder / f"{done}"  # two columns may be called alike, as far as a file's name goes
        own.mkdir()
        for place, image in enumerate(images):
            scores = str(fits[place]) if fits else ""
            emit(_saved(image, panel, order, place, own, scores))


def _judge(bases: Bases, base: Base, order: DrawOrder, emit: Emit) -> Judge | None:
    """Who scores the pictures, if the visitor has given any to compare with.

    Pictures are drawn without scores too: why there are none is emitted as an Unscored.
    """
    if not order.references:
        return None
    try:
        return judge(bases.clip(base, stepping(emit)), order.references)
    except MergeError as error:
        emit(Unscored(str(error)))
        return None


def _panels(order: DrawOrder, weights: Weights) -> Iterator[Panel]:
    """The columns that were asked for, in their usual order."""
    found = [source_of(pick, order.base, weights) for pick in order.picks]
    sources = [(_called(source), source.strength) for source in found]
    if "base" in order.columns:
        yield Panel("Base model", [])
    if "each" in order.columns:
        for adapter, strength in sources:
            yield Panel(f"{adapter.name} alone", [(adapter, strength)])
    if "sum" in order.columns:
        yield Panel("All together (sum)", sources)
    if "gated" in order.columns:
        yield Panel("Gated, no merge", sources, "gated")
    if "merged" in order.columns and order.merged is not None:
        words = tuple(each for adapter, _ in sources for each in adapter.embeddings)
        yield _merge(f"Merged ({order.method})", order.merged, words)


def _other(other: Other, table: LayerTable) -> Panel:
    """The column of a merge of before, which needs its own words and none of this one's."""
    return _merge(other.title, other.path, words_of(other.embeddings, table))


def _merge(title: str, file: Path, words: tuple[Embedding, ...]) -> Panel:
    """The column of a merge, from its file and the textual inversions that it was made with."""
    merged = replace(formats.read(file, name=file.stem), embeddings=words)
    return Panel(title, [(merged, 1.0)], recipe=merged.metadata.get(RECIPE_KEY, ""))


def _called(source: Source) -> Adapter:
    """The weighed adapter, called by the words that the visitor typed."""
    return replace(source.weighted, trigger=source.phrase)


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
