"""The command that says where LoRAs get in each other's way, before any merge."""

from __future__ import annotations

import argparse
from typing import TypedDict

from merging.analysis.conflicts import Meeting, Pair, advice, conflicts
from merging.cli.file_argument import parsed
from merging.cli.merge_options import STRENGTHS
from merging.diffusion.base import load_base
from merging.errors import MergeError
from merging.runtime.progress import Progress


def add_conflicts(sub: argparse.ArgumentParser) -> None:
    """Its options."""
    sub.add_argument("files", nargs="+", metavar="FILE[@STRENGTH]", help=STRENGTHS)
    sub.add_argument("--base", default="mini", help="mini, sd15, a folder or a Hub id")
    sub.set_defaults(run=run_conflicts)


class MeetingData(TypedDict):
    """A `Meeting` as plain data."""

    block: str
    cosine: float
    overlap: float
    chance: float
    ratio: float | None  # None beside a LoRA that changes nothing there


class PairData(TypedDict):
    """Two LoRAs as plain data."""

    names: list[str]
    advice: list[str]
    whole: MeetingData
    blocks: list[MeetingData]


class ConflictsAnswer(TypedDict):
    """Every two of the LoRAs, the worst first."""

    pairs: list[PairData]


def run_conflicts(options: argparse.Namespace, _progress: Progress) -> tuple[ConflictsAnswer, str]:
    """Where every two of some LoRAs get in each other's way, block by block."""
    if len(options.files) < 2:
        raise MergeError("Conflicts are between LoRAs: name at least two files.")
    base = load_base(options.base, "cpu")
    sources = [parsed(text).source(base) for text in options.files]
    pairs = sorted(conflicts(sources), key=lambda pair: -pair.severity)
    return {"pairs": [_plain(pair) for pair in pairs]}, "\n\n".join(map(_told, pairs))


def _plain(pair: Pair) -> PairData:
    return {
        "names": list(pair.names),
        "advice": advice(pair),
        "whole": _numbers(pair.whole),
        "blocks": [_numbers(met) for met in pair.blocks],
    }


def _numbers(met: Meeting) -> MeetingData:
    return {
        "block": met.block,
        "cosine": met.cosine,
        "overlap": met.overlap,
        "chance": met.chance,
        "ratio": met.ratio if met.ratio < float("inf") else None,
    }


def _told(pair: Pair) -> str:
    lines = [" and ".join(pair.names), *(f"  {sentence}" for sentence in advice(pair))]
    lines.append(f"  {'block':5} {'overlap':>8} {'chance':>7} {'cosine':>7} {'ratio':>6}")
    lines += [
        f"  {met.block:5} {met.overlap:8.0%} {met.chance:7.0%} {met.cosine:7.2f} {met.ratio:6.2f}"
        for met in pair.blocks
    ]
    return "\n".join(lines)
