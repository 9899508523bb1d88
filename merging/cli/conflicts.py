"""The command `conflicts`: where LoRAs get in each other's way, before any merge."""

from __future__ import annotations

import argparse
from typing import TypedDict

from merging.analysis.conflicts import BlockConflict, PairConflict, advice, conflicts
from merging.cli.arguments.file_argument import parse_file_argument
from merging.cli.arguments.merge_options import BASES, STRENGTHS
from merging.cli.parser import CommandParser
from merging.diffusion.base import load_base
from merging.errors import MergeError
from merging.runtime.progress import Progress


def add_conflicts(sub: CommandParser) -> None:
    """The options of ``conflicts``."""
    sub.describe(
        "FILE[@STRENGTH] FILE[@STRENGTH]… [options]",
        "cat.safetensors dog.safetensors",
        "cat.safetensors@0.8 dog.safetensors --base sd15",
    )
    sub.essentials.add_argument("files", nargs="+", metavar="FILE[@STRENGTH]", help=STRENGTHS)
    sub.essentials.add_argument("--base", default="mini", help=BASES)
    sub.set_defaults(run=run_conflicts)


class BlockConflictData(TypedDict):
    """A `BlockConflict` as plain data."""

    block: str
    cosine: float
    overlap: float
    chance: float
    ratio: float | None  # None where the other LoRA changes nothing


class PairConflictData(TypedDict):
    """A `PairConflict` as plain data."""

    names: list[str]
    advice: list[str]
    whole: BlockConflictData
    blocks: list[BlockConflictData]


class ConflictsAnswer(TypedDict):
    """Every pair of LoRAs, the worst first."""

    pairs: list[PairConflictData]


def run_conflicts(options: argparse.Namespace, _progress: Progress) -> tuple[ConflictsAnswer, str]:
    """Compare every pair of LoRAs, block by block."""
    if len(options.files) < 2:
        raise MergeError("Conflicts are between LoRAs: name at least two files.")
    files = [parse_file_argument(text) for text in options.files]
    base = load_base(options.base, "cpu") if any(file.needs_base for file in files) else None
    sources = [file.source(base) for file in files]
    pairs = sorted(conflicts(sources), key=lambda pair: -pair.severity)
    return {"pairs": [_pair_data(pair) for pair in pairs]}, "\n\n".join(map(_pair_text, pairs))


def _pair_data(pair: PairConflict) -> PairConflictData:
    return {
        "names": list(pair.names),
        "advice": advice(pair),
        "whole": _block_data(pair.whole),
        "blocks": [_block_data(block) for block in pair.blocks],
    }


def _block_data(block: BlockConflict) -> BlockConflictData:
    return {
        "block": block.block,
        "cosine": block.cosine,
        "overlap": block.overlap,
        "chance": block.chance,
        "ratio": block.ratio if block.ratio < float("inf") else None,
    }


def _pair_text(pair: PairConflict) -> str:
    lines = [" and ".join(pair.names), *(f"  {sentence}" for sentence in advice(pair))]
    lines.append(f"  {'block':5} {'overlap':>8} {'chance':>7} {'cosine':>7} {'ratio':>6}")
    lines += [
        f"  {at.block:5} {at.overlap:8.0%} {at.chance:7.0%} {at.cosine:7.2f} {at.ratio:6.2f}"
        for at in pair.blocks
    ]
    return "\n".join(lines)
