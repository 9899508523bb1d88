"""The command `carry`: a LoRA of one base model for another of the same architecture."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import TypedDict

from merging import formats
from merging.cli.arguments.merge_options import BASES, FORMATS, add_device
from merging.cli.output import ranks_text, with_notes
from merging.cli.parser import CommandParser
from merging.diffusion.base import load_base
from merging.diffusion.carry.effect import Misses
from merging.diffusion.carry.run import Carried, CarryOptions, carry
from merging.export.carried import carried_header
from merging.export.save import SavedData, save_adapter
from merging.lora_file import LoraInput
from merging.runtime.progress import Progress


def add_carry(sub: CommandParser) -> None:
    """The options of ``carry``."""
    sub.describe(
        "LORA --from BASE --to BASE --out OUT.safetensors [options]",
        "cat.safetensors --from sd15 --to finetune.safetensors --out cat-finetune.safetensors",
        "cat.safetensors --from mini --to my-base --samples 64 --out cat-my.safetensors --json",
    )
    add = sub.essentials.add_argument
    add("file", type=Path, metavar="LORA", help="the LoRA, of any family")
    add("--from", dest="old", required=True, metavar="BASE", help="base that it was trained on")
    add("--to", dest="new", required=True, metavar="BASE", help=f"the other {BASES}")
    add("-o", "--out", type=Path, required=True, help="the adapter to write")
    text = "its trigger phrase (default: as the file says)"
    add("--trigger", default="", metavar="TEXT", help=text)
    sub.files.add_argument("--format", choices=formats.WRITERS, default="kohya", help=FORMATS)
    text = "numbers of the file"
    sub.files.add_argument("--dtype", choices=formats.DTYPES, default="fp16", help=text)
    add = sub.experts.add_argument
    text = "prompts with the trigger, and as many without it"
    add("--samples", type=int, metavar="N", default=CarryOptions.samples, help=text)
    text = "steps of training on self-made pictures, from the closed form on"
    add("--steps", type=int, metavar="N", default=CarryOptions.steps, help=text)
    text = "how strongly layers are held to what they are in the file"
    add("--ridge", type=float, metavar="N", default=CarryOptions.ridge, help=text)
    text = "seed of prompts and noise"
    add("--seed", type=int, metavar="N", default=CarryOptions.seed, help=text)
    add_device(sub)
    sub.set_defaults(run=run_carry)


class MissRow(TypedDict):
    """How far the effect on the old base is missed on the new one; 1 is as far as no LoRA."""

    plain: float  # by the file as it is
    carried: float


class CarryAnswer(SavedData):
    """The carried LoRA."""

    layers: dict[str, MissRow]
    noise: MissRow
    notes: list[str]


def run_carry(options: argparse.Namespace, progress: Progress) -> tuple[CarryAnswer, str]:
    """Carry the LoRA, write it, and say how much of its effect it keeps."""
    old, new = (load_base(name, options.device) for name in (options.old, options.new))
    adapter = LoraInput(options.file).source(old).adapter
    chosen = CarryOptions(
        options.trigger,
        options.samples,
        ridge=options.ridge,
        steps=options.steps,
        seed=options.seed,
    )
    result = carry(adapter, old, new, chosen, progress)
    fields = carried_header(adapter, old, new, chosen)
    saved = save_adapter(result.adapter, options.out, options.format, options.dtype, fields, new)
    answer: CarryAnswer = {
        **saved.as_dict(),
        "layers": {
            name: {"plain": miss, "carried": result.carried.layers[name]}
            for name, miss in result.plain.layers.items()
        },
        "noise": {"plain": result.plain.noise, "carried": result.carried.noise},
        "notes": [*result.notes],
    }
    lines = [f"{options.out}: {adapter.name}, {ranks_text(result.adapter)}", *_table(result)]
    return answer, with_notes("\n".join(lines), saved, (*result.notes, *adapter.warnings))


def _table(result: Carried) -> list[str]:
    """How far the effect is missed, by part of the model, and a verdict."""
    plain, after = _by_part(result.plain), _by_part(result.carried)
    lines = [f"  {'misses its effect by':<22} as it is  carried"]
    lines += [f"  {part:<22} {plain[part]:8.0%} {after[part]:8.0%}" for part in plain]
    return [*lines, verdict(result)]


def verdict(result: Carried) -> str:
    """Whether carrying is of use, by the predicted noise."""
    on = "On prompts that were held out the carried LoRA comes"
    if result.carried.noise < result.plain.noise:
        return f"{on} closer to what it did on its own base."
    return f"{on} no closer to what it did on its own base: load the LoRA as it is."


def _by_part(misses: Misses) -> Mapping[str, float]:
    """Means of the layers of each part, and the predicted noise."""
    parts: dict[str, list[float]] = {}
    for name, miss in misses.layers.items():
        parts.setdefault(_part(name), []).append(miss)
    return {part: fmean(values) for part, values in parts.items()} | {
        "predicted noise": misses.noise
    }


def _part(layer: str) -> str:
    """The part of the model that a layer is in, in a user's words."""
    if layer.startswith("text_encoder."):
        return "text encoder"
    block = layer.split(".")[1]
    return {"down_blocks": "UNet, down", "mid_block": "UNet, middle", "up_blocks": "UNet, up"}.get(
        block, "UNet, rest"
    )
