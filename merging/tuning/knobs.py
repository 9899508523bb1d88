"""What is tuned: the strength of each LoRA, or of each of its blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from merging.block_weights import BLOCKS
from merging.blocks import blocks
from merging.formats.layer_tables import table_of
from merging.request import MergeRequest, Source


@dataclass(frozen=True)
class Knob:
    """One number of the search."""

    lora: int  # place among the sources
    block: str = ""  # "": the whole LoRA


def knobs_of(request: MergeRequest, by_block: bool) -> tuple[Knob, ...]:
    """A knob for every LoRA, or for every block in which it has a layer."""
    if not by_block:
        return tuple(map(Knob, range(len(request.sources))))
    return tuple(
        Knob(place, block)
        for place, source in enumerate(request.sources)
        for block in _blocks(source)
    )


def with_factors(
    request: MergeRequest, knobs: Sequence[Knob], factors: Sequence[float]
) -> MergeRequest:
    """The request with its strengths times the factors; MergeError where one is too large."""
    return replace(
        request,
        sources=tuple(
            _turned(
                source,
                {
                    knob.block: factor
                    for knob, factor in zip(knobs, factors, strict=True)
                    if knob.lora == place
                },
            )
            for place, source in enumerate(request.sources)
        ),
    )


def file_argument(file: str, source: Source) -> str:
    """FILE@strength of a tuned source, as the command line takes it."""
    text = f"{file}@{source.strength:.6g}"
    parts = {"te": source.text_encoder, "unet": source.unet}
    text += "".join(
        f":{name}={factor * source.strength:.6g}" for name, factor in parts.items() if factor != 1
    )
    if source.blocks is not None:
        text += ":lbw=" + ",".join(f"{source.blocks.get(block, 0.0):.6g}" for block in BLOCKS)
    return text


def _blocks(source: Source) -> list[str]:
    places = blocks(table_of(source.adapter))
    used = {places[layer] for layer in source.adapter.layers if layer in places}
    return [block for block in BLOCKS if block in used]


def _turned(source: Source, factors: dict[str, float]) -> Source:
    """A source whose whole or whose blocks are multiplied."""
    if "" in factors:
        return replace(source, strength=factors[""] * source.strength)
    weights = dict.fromkeys(BLOCKS, 1.0) if source.blocks is None else dict(source.blocks)
    turned = {block: factors.get(block, 1.0) * weight for block, weight in weights.items()}
    return replace(source, blocks=turned)
