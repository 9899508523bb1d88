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
from merging.cli.arguments.file_argument import embeddings_of, parse_file_argument
from merging.cli.arguments.judge_argument import (
    FindingData,
    finding_data,
    judge_pictures,
    judged_concepts,
)
from merging.cli.arguments.merge_options import STRENGTHS, add_base, add_embeddings
from merging.cli.arguments.reference_argument import reference_pictures
from merging.cli.arguments.region_argument import FORMS, HELP, region_argument
from merging.cli.parser import CommandParser
from merging.diffusion.base import Base, load_base
from merging.diffusion.compose import COMPOSITIONS
from merging.diffusion.heat_map import heat_map
from merging.diffusion.render import render
from merging.errors import MergeError
from merging.io.png import Origin, read_origin, save_png
from merging.options import Sampler
from merging.runtime.progress import Progress, part
from merging.scoring.clip import load_clip
from merging.scoring.references import PictureScorer, build_scorer
from merging.text.syntax import plain_text

MAX_COUNT = 64
ORIGIN_OPTIONS = (
    "negative",
    "seed",
    "steps",
    "guidance",
    "sampler",
    "size",
    "clip_skip",
    "compose",
)  # options that --like can set: fields of an Origin


def add_render(sub: CommandParser) -> None:
    """The options of ``render``; those that --like can set have no default here."""
    sub.describe(
        "--prompt TEXT… --out FOLDER [options]",
        '--adapter both.safetensors --prompt "sks cat and qfj dog" --count 4 --out pictures',
        "--like pictures/000_seed0.png --steps 40 --out again",
    )
    add_base(sub)
    _add_scene(sub)
    _add_look(sub)
    _add_more(sub)
    add_embeddings(sub)
    sub.set_defaults(run=run_render)


def _add_scene(sub: CommandParser) -> None:
    """Adapters, prompts and seeds, and the folder."""
    add = sub.essentials.add_argument
    several: dict[str, Any] = {"action": "extend", "nargs": "+"}
    text = f"LoRAs to draw with, {STRENGTHS} (default: none)"
    add("--adapter", **several, default=[], metavar="FILE[@STRENGTH]", help=text)
    add("--prompt", **several, metavar="TEXT", help="what to draw (default: that of --like)")
    add("--seed", type=int, metavar="N", help="seed of the first picture (default: 0)")
    add("--count", type=int, metavar="N", default=1, help="pictures per prompt, seed by seed")
    add("-o", "--out", type=Path, required=True, help="folder for the pictures")


def _add_look(sub: CommandParser) -> None:
    """How the sampler works; --like can set these, so they have no default here."""
    add = sub.experts.add_argument
    default = Origin("")
    add("--negative", metavar="TEXT", help="what should not be in the pictures (default: nothing)")
    add("--steps", type=int, metavar="N", help=f"sampling steps (default: {default.steps})")
    add(
        "--guidance",
        type=float,
        metavar="N",
        help="how closely to follow the prompt (default: 3 for mini, else 7)",
    )
    add(
        "--sampler",
        choices=get_args(Sampler),
        metavar="NAME",
        help=f"{', '.join(get_args(Sampler))} (default: {default.sampler})",
    )
    add("--size", metavar="WIDTHxHEIGHT", help="in pixels (default: the base model's)")
    text = "2 leaves out the text encoder's last layer, as A1111 counts (default: 1)"
    add("--clip-skip", type=int, metavar="N", help=text)
    add(
        "--compose",
        choices=list(COMPOSITIONS),
        metavar="NAME",
        help="how several LoRAs act together, a name that methods --compose lists (default: "
        f"{default.compose})",
    )
    add(
        "--region",
        action="extend",
        nargs="+",
        type=region_argument,
        metavar=FORMS,
        help=HELP,
    )


def _add_more(sub: CommandParser) -> None:
    """Files that are read or written besides."""
    add = sub.files.add_argument
    several: dict[str, Any] = {"action": "extend", "nargs": "+"}
    add(
        "--like",
        type=Path,
        metavar="PNG",
        help="take the settings of this picture, where no option sets them (default: none)",
    )
    add(
        "--maps",
        nargs="*",
        metavar="PHRASE",
        help="also draw a heat map for every PHRASE, without any for the adapters' triggers "
        "(default: no maps)",
    )
    add(
        "--reference",
        **several,
        default=[],
        metavar="TRIGGER=PICTURES",
        help="a folder or a picture of the real thing: scores how alike the pictures are "
        "(default: no scores)",
    )
    add(
        "--judge",
        nargs="*",
        metavar="FILE[@STRENGTH]",
        help="look for the concepts of these LoRAs in the pictures, without any for the adapters' "
        "(default: not asked)",
    )


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
    """One picture, its files, and what was asked about it."""

    scores: ScoreData  # where there are reference pictures
    concepts: dict[str, FindingData]  # by trigger, with --judge


class RenderAnswer(TypedDict):
    """The pictures in the order in which they were drawn."""

    pictures: list[PictureData]


def run_render(options: argparse.Namespace, progress: Progress) -> tuple[RenderAnswer, str]:
    """Draw the pictures, write them and list the files."""
    settings = _settings(options)
    prompts = options.prompt or [settings.prompt]
    base = load_base(options.base, options.device, options.precision)
    sources = [parse_file_argument(text).source(base) for text in options.adapter]
    adapters = [(source.weighted_adapter, source.strength) for source in sources]
    scorer = _scorer(options.reference, base)
    concepts, words = judged_concepts(options.judge, adapters, base)
    embeddings = embeddings_of(options.embedding, base.table)
    drawing = part(progress, 0.0, 0.5) if concepts else progress
    scenes = [(text, settings.seed + index) for text in prompts for index in range(options.count)]
    captions = [prompt for prompt, _ in scenes]
    images = render(
        base,
        captions,
        [seed for _, seed in scenes],
        adapters=adapters,
        embeddings=embeddings,
        steps=settings.steps,
        first_alone=True,
        guidance=settings.guidance,
        compose=settings.compose,
        negative=settings.negative,
        sampler=settings.sampler,  # type: ignore[arg-type] # render refuses others
        size=settings.size,
        clip_skip=settings.clip_skip,
        regions=settings.regions,
        phrases=_phrases(options.maps, (adapter for adapter, _ in adapters)),
        progress=drawing,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    scores = scorer.score(images, captions) if scorer else []
    pictures = [
        _save_picture(image, index, scenes[index], options) for index, image in enumerate(images)
    ]
    lines = [[picture["path"], *picture["maps"].values()] for picture in pictures]
    for picture, line, score in zip(pictures, lines, scores, strict=False):
        picture["scores"] = {"text": score.text, "image": dict(score.image)}
        line[0] += f"  {score}"
    if concepts:
        judging = part(progress, 0.5, 1.0)
        answers = judge_pictures(base, concepts, [*words, *embeddings], images, captions, judging)
        for picture, line, findings in zip(pictures, lines, answers, strict=True):
            picture["concepts"] = {one.phrase: finding_data(one) for one in findings}
            line[0] += "  " + " · ".join(map(str, findings))
    return {"pictures": pictures}, "\n".join(text for line in lines for text in line)


def _scorer(references: Sequence[str], base: Base) -> PictureScorer | None:
    """The scorer for arguments TRIGGER=PICTURES; None without any."""
    pictures = reference_pictures(references)
    return build_scorer(load_clip(base_model(base.name).clip), pictures) if pictures else None


def _settings(options: argparse.Namespace) -> Origin:
    """Settings of the pictures: from the flags, else from --like's picture, else the defaults."""
    if options.count < 1 or options.count > MAX_COUNT:
        raise MergeError(f"--count must be 1 to {MAX_COUNT}, not {options.count}.")
    if not (options.prompt or options.like):
        raise MergeError(
            "There is no prompt: give --prompt TEXT, or --like PNG to take that picture's."
        )
    best = base_model(options.base).guidance
    default = read_origin(options.like)[0] if options.like else Origin("", guidance=best)
    flags = {
        key: getattr(options, key) for key in ORIGIN_OPTIONS if getattr(options, key) is not None
    }
    flags |= {"regions": tuple(options.region)} if options.region else {}
    return replace(default, **flags)


def _phrases(phrases: Sequence[str] | None, adapters: Iterable[Adapter]) -> list[str]:
    """Phrases that get heat maps; a merged adapter's triggers are separated by commas."""
    if phrases is None:
        return []
    phrases = phrases or [one for adapter in adapters for one in adapter.triggers]
    if not phrases:
        raise MergeError("--maps: no adapter has a trigger; write the phrases after --maps.")
    return list(dict.fromkeys(map(plain_text, phrases)))


def _save_picture(
    image: Image.Image, place: int, scene: tuple[str, int], options: argparse.Namespace
) -> PictureData:
    """Save one picture, and its heat maps beside it."""
    prompt, seed = scene
    path = options.out / f"{place:03d}_seed{seed}.png"
    save_png(image, path)
    maps = {}
    for phrase, attention in image.info.get("maps", {}).items():
        map_path = path.with_name(f"{path.stem}_{phrase.replace(' ', '-')}.png")
        save_png(heat_map(image, attention), map_path)
        maps[phrase] = str(map_path)
    return {"prompt": prompt, "seed": seed, "path": str(path), "maps": maps}
