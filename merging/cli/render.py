"""The command ``render``: prompts in, pictures and heat maps out."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, get_args

from PIL import Image

from merging.adapter import Adapter
from merging.base_models import base_model
from merging.cli.file_argument import parsed, words
from merging.cli.merge_options import STRENGTHS, add_base, add_words
from merging.diffusion.base import Base, load_base
from merging.diffusion.heat_map import heat_map
from merging.diffusion.render import render
from merging.errors import MergeError
from merging.io.png import Origin, read_origin, save_png
from merging.options import Compose, Sampler
from merging.runtime.progress import Progress
from merging.scoring.clip import load_clip
from merging.scoring.references import PictureScorer, build_scorer, pictures_in

MAX_COUNT = 64
TAKEN = (
    "negative",
    "seed",
    "steps",
    "guidance",
    "sampler",
    "size",
    "compose",
)  # options of an Origin


def add_render(sub: argparse.ArgumentParser) -> None:
    """The options; those that a picture may bring have no default of their own."""
    add_base(sub)
    several: dict[str, Any] = {"action": "extend", "nargs": "+"}
    sub.add_argument("--adapter", **several, default=[], metavar="FILE[@STRENGTH]", help=STRENGTHS)
    sub.add_argument("--prompt", **several, metavar="TEXT")
    sub.add_argument("--negative", metavar="TEXT", help="what should not be in the pictures")
    sub.add_argument("--seed", type=int, help="of the first picture; 0 if nothing is said")
    sub.add_argument("--count", type=int, default=1, help="pictures per prompt, seed by seed")
    sub.add_argument("--steps", type=int)
    sub.add_argument("--guidance", type=float)
    sub.add_argument("--sampler", choices=get_args(Sampler))
    sub.add_argument("--size", metavar="WIDTHxHEIGHT", help="in pixels; else the base's own")
    sub.add_argument("--compose", choices=get_args(Compose))
    sub.add_argument(
        "--like", type=Path, metavar="PNG", help="settings of this picture, where none are given"
    )
    sub.add_argument(
        "--maps",
        nargs="*",
        metavar="PHRASE",
        help="also where each phrase was looked at; without any, the adapters' triggers",
    )
    sub.add_argument(
        "--reference",
        **several,
        default=[],
        metavar="TRIGGER=PICTURES",
        help="a folder or a picture of the real thing: tells how alike it and each picture are",
    )
    sub.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    add_words(sub)
    sub.set_defaults(run=run_render)


class ScoreData(TypedDict):
    """A picture's scores as plain data."""

    text: float
    image: dict[str, float]  # concept → score


class _DrawnPicture(TypedDict):
    prompt: str
    seed: int
    path: str
    maps: dict[str, str]  # phrase → file


class PictureData(_DrawnPicture, total=False):
    """One picture, its files, and its scores where there are reference pictures."""

    scores: ScoreData


class RenderAnswer(TypedDict):
    """The pictures in the order in which they were drawn."""

    pictures: list[PictureData]


def run_render(options: argparse.Namespace, progress: Progress) -> tuple[RenderAnswer, str]:
    """Draw, write, and tell what was written."""
    asked = _asked(options)
    prompts = options.prompt or [asked.prompt]
    base = load_base(options.base, options.device, options.precision)
    sources = [parsed(text).source(base) for text in options.adapter]
    adapters = [(source.weighted_adapter, source.strength) for source in sources]
    judged = _judge(options.reference, base)
    pairs = [(text, asked.seed + i) for text in prompts for i in range(options.count)]
    images = render(
        base,
        [prompt for prompt, _ in pairs],
        [seed for _, seed in pairs],
        adapters=adapters,
        embeddings=words(options.embedding, base),
        steps=asked.steps,
        guidance=asked.guidance,
        compose=asked.compose,  # type: ignore[arg-type] # checked by the parser, or below
        negative=asked.negative,
        sampler=asked.sampler,  # type: ignore[arg-type] # render refuses others
        size=asked.size,
        phrases=_phrases(options.maps, (adapter for adapter, _ in adapters)),
        progress=progress,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    scores = judged.score(images, [prompt for prompt, _ in pairs]) if judged else []
    pictures = [_written(image, i, pairs[i], options) for i, image in enumerate(images)]
    lines = [[each["path"], *each["maps"].values()] for each in pictures]
    for each, line, fit in zip(pictures, lines, scores, strict=False):
        each["scores"] = {"text": fit.text, "image": dict(fit.image)}
        line[0] += f"  {fit}"
    return {"pictures": pictures}, "\n".join(text for line in lines for text in line)


def _judge(references: Sequence[str], base: Base) -> PictureScorer | None:
    """Who scores the pictures, if there are any to compare with: TRIGGER=PICTURES each."""
    found: dict[str, list[Path]] = {}
    for text in references:
        trigger, equals, place = text.partition("=")
        if not (trigger.strip() and equals and place):
            raise MergeError(f"--reference {text}: write TRIGGER=FOLDER, such as 'sks cat=photos'.")
        found.setdefault(trigger.strip(), []).extend(pictures_in(Path(place)))
    return build_scorer(load_clip(base_model(base.name).clip), found) if found else None


def _asked(options: argparse.Namespace) -> Origin:
    """What is to be drawn: as given, else as the picture says, else as usual."""
    if options.count < 1 or options.count > MAX_COUNT:
        raise MergeError(f"--count must be 1 to {MAX_COUNT}, not {options.count}.")
    if not (options.prompt or options.like):
        raise MergeError("Say what to draw: --prompt TEXT, or --like PNG for that picture's.")
    best = base_model(options.base).guidance
    usual = read_origin(options.like)[0] if options.like else Origin("", guidance=best)
    given = {key: getattr(options, key) for key in TAKEN if getattr(options, key) is not None}
    return replace(usual, **given)


def _phrases(wanted: Sequence[str] | None, adapters: Iterable[Adapter]) -> list[str]:
    """Whose maps are drawn; a merged adapter has several triggers, with commas between them."""
    if wanted is None:
        return []
    found = wanted or [one for adapter in adapters for one in adapter.trigger.split(", ") if one]
    if not found:
        raise MergeError("--maps: no adapter names a trigger; write the words after it.")
    return list(dict.fromkeys(found))


def _written(
    image: Image.Image, place: int, pair: tuple[str, int], options: argparse.Namespace
) -> PictureData:
    """One picture, and its maps beside it, on the disk."""
    prompt, seed = pair
    path = options.out / f"{place:03d}_seed{seed}.png"
    save_png(image, path)
    maps = {}
    for phrase, looks in image.info.get("maps", {}).items():
        beside = path.with_name(f"{path.stem}_{phrase.replace(' ', '-')}.png")
        save_png(heat_map(image, looks), beside)
        maps[phrase] = str(beside)
    return {"prompt": prompt, "seed": seed, "path": str(path), "maps": maps}
