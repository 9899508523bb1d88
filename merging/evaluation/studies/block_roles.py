"""Which blocks of a LoRA carry its look, and which the layout of the picture, by drawing with some.

Every LoRA of the tuning split draws the same prompts and seeds with its text encoder, by which the
trigger has its meaning, and some blocks of its UNet alone, as B-LoRA looks for blocks of SDXL
(arXiv:2403.14572). Over all pictures, the mean of

    look    s: the detector's score of the look minus that of the base's own thing, or of the style
    layout  r: correlation of its brightness, 16 × 16, with that of the picture by all blocks

and both as shares of what all blocks do: 0 is the base's own picture, 1 that of the whole LoRA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from PIL import Image
from torch import Tensor

from merging.adapter import Adapter
from merging.block_weights import BLOCKS
from merging.blocks import apply_block_weights
from merging.bundled import SPLITS, BundledLora, listed_pairs, shelf
from merging.diffusion.base import Base
from merging.diffusion.render import render
from merging.errors import MergeError
from merging.evaluation.base_quality import one_prompt, place_words
from merging.evaluation.detector import Detector, base_class
from merging.runtime.progress import Progress, part

# Blocks of the embedded base by the side of what they see: its levels have 16, 8 and 4 places.
FINE, MEDIUM = ("IN01", "OUT04", "OUT05"), ("IN03", "OUT02", "OUT03")
COARSE = ("IN05", "M00", "OUT00", "OUT01")
DOWN, UP = ("IN01", "IN03", "IN05"), tuple(f"OUT{n:02d}" for n in range(6))
GROUPS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "down": DOWN,
    "middle": ("M00",),
    "up": UP,
    "fine (16²)": FINE,
    "medium (8²)": MEDIUM,
    "coarse (4²)": COARSE,
}
SIDE = 16  # of the brightness that is compared


@dataclass(frozen=True)
class Share:
    """What some blocks of one LoRA do, as shares of what all of them do."""

    lora: str  # trigger
    blocks: str  # one of `GROUPS`
    look: float
    layout: float


def tuning_loras(only: Sequence[str] | None = None) -> tuple[BundledLora, ...]:
    """The LoRAs of the tuning split's pairs, on which choices are made; of these triggers alone.

    MergeError for a trigger that none of them has.
    """
    named = {name for pair in listed_pairs() if pair.split == SPLITS[0] for name in pair.triggers}
    if unknown := [trigger for trigger in only or () if trigger not in named]:
        raise MergeError(
            f"No LoRA of the tuning split has the trigger {unknown[0]}; there are "
            f"{', '.join(sorted(named))}."
        )
    wanted = named if only is None else set(only)
    return tuple(lora for lora in shelf() if lora.trigger in wanted)


def measure(
    base: Base,
    detector: Detector,
    only: Sequence[str] | None,
    pictures: int,
    steps: int,
    progress: Progress,
) -> list[Share]:
    """Draw each LoRA's pictures with every group of blocks, and compare them."""
    shares, loras = [], tuning_loras(only)
    for place, lora in enumerate(loras):
        span = part(progress, place / len(loras), (place + 1) / len(loras))
        shares += shares_of(
            Scene(base, detector, lora, pictures, steps), lora.adapter(base.table), span
        )
    return shares


@dataclass(frozen=True)
class Scene:
    """The pictures of one LoRA."""

    base: Base
    detector: Detector
    lora: BundledLora
    pictures: int
    steps: int

    def draw(self, adapter: Adapter | None) -> list[Image.Image]:
        """The pictures with an adapter, or none: the same prompts and seeds."""
        prompts = [self._prompt(number) for number in range(self.pictures)]
        used = [(adapter, 1.0)] if adapter else []
        seeds = range(self.pictures)
        return render(self.base, prompts, seeds, adapters=used, steps=self.steps)

    def _prompt(self, number: int) -> str:
        grounds, things = self.detector.grounds, self.detector.things
        ground = place_words(grounds[number % len(grounds)])
        if self.lora.kind == "style":
            thing = things[number % len(things)]
            return f"{one_prompt(thing)} {ground} in {self.lora.trigger}"
        return f"{one_prompt(self.lora.trigger)} {ground}"

    def look(self, images: Sequence[Image.Image]) -> float:
        """Mean of s."""
        scores = self.detector.scores(images)
        look = scores[:, self.detector.column(self.lora.trigger)]
        if self.lora.kind != "style":
            look = look - scores[:, self.detector.column(base_class(self.lora.trigger))]
        return look.mean().item()


def shares_of(scene: Scene, adapter: Adapter, progress: Progress) -> list[Share]:
    """The rows of one LoRA."""
    some = {name: _part_of(adapter, blocks) for name, blocks in GROUPS.items()}
    variants: dict[str, Adapter | None] = {"base": None, "all": adapter, **some}
    images = {}
    for place, (name, variant) in enumerate(variants.items()):
        span = part(progress, place / len(variants), (place + 1) / len(variants))
        span(0.0, f"{scene.lora.trigger}: {name}")
        images[name] = scene.draw(variant)
    whole = _brightness(images["all"])
    looks = {name: scene.look(drawn) for name, drawn in images.items()}
    layouts = {name: _correlation(_brightness(drawn), whole) for name, drawn in images.items()}
    return [
        Share(scene.lora.trigger, name, _share(looks, name), _share(layouts, name))
        for name in GROUPS
    ]


def _part_of(adapter: Adapter, blocks: Sequence[str]) -> Adapter:
    """Its text encoder, and these blocks of its UNet."""
    weights = {block: float(block == "BASE" or block in blocks) for block in BLOCKS}
    return apply_block_weights(adapter, weights=weights)


def _share(values: Mapping[str, float], name: str) -> float:
    whole = values["all"] - values["base"]
    return (values[name] - values["base"]) / whole if whole else 0.0


def _brightness(images: Sequence[Image.Image]) -> Tensor:
    """(n, SIDE²), each of mean 0 and length 1."""
    small = [image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX) for image in images]
    rows = torch.tensor([list(image.tobytes()) for image in small], dtype=torch.float64)
    rows = rows - rows.mean(dim=1, keepdim=True)
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-9)


def _correlation(one: Tensor, other: Tensor) -> float:
    return (one * other).sum(dim=1).mean().item()


def table(shares: Sequence[Share]) -> str:
    """Look and layout of every group, LoRA by LoRA and on average, as Markdown."""
    loras = list(dict.fromkeys(share.lora for share in shares))
    lines = [
        f"| blocks, beside the text encoder | {' | '.join(loras)} | mean |",
        "| --- |" + " --- |" * (len(loras) + 1),
    ]
    for name in GROUPS:
        rows = [share for share in shares if share.blocks == name]
        cells = [f"{row.look:.2f} / {row.layout:.2f}" for row in rows]
        means = (fmean(row.look for row in rows), fmean(row.layout for row in rows))
        lines.append(f"| {name} | {' | '.join(cells)} | {means[0]:.2f} / {means[1]:.2f} |")
    return "\n".join(lines)
