"""Which LoRA acts where: on the words of its own phrase, and on its own part of the picture.

Under a gate the LoRAs do not meet, so several concepts appear as each was trained. It is the
teacher of composed rows, and a way to sample without any merge (``--compose gated``).

Words: a token of concept i's phrase gets Δ_i alone; tokens of no phrase (articles, end, padding)
get the sum, since concept LoRAs speak through them too; the first token gets nothing. Regions: a
position belongs to the concept whose words its cross-attention, summed over layers and over the
steps so far, favours most (each concept's map relative to its own mean). A style (a phrase that
ends in "style") acts on all words and everywhere. A LoRA that the prompt does not name would do so
too: ``silenced`` leaves it out, in a teacher and in a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from merging.calibration.prompts import is_style
from merging.diffusion.attention_maps import AttentionWatch, marked
from merging.diffusion.base import Base
from merging.diffusion.layer_inputs import reads_text
from merging.diffusion.layer_ops import Change, Module, change, spread


@dataclass
class Gate:
    """Weights of every LoRA for one batch, row by row."""

    words: Tensor  # (samples, tokens, LoRAs)
    regions: Tensor  # (samples, LoRAs, height, width), at the size of the latent

    def rows(self, layer: str, count: int) -> Tensor:
        """The weights of the layer's ``count`` input rows: (samples, count, LoRAs)."""
        if reads_text(layer):
            return self.words
        if count == 1:  # the time embedding belongs to no position
            return self.regions.amax(dim=(2, 3))[:, None]
        height, width = self.regions.shape[2:]
        shrink = (height * width / count) ** 0.5
        size = (round(height / shrink), round(width / shrink))
        return F.interpolate(self.regions, size=size, mode="area").flatten(2).transpose(1, 2)


def constant_gate(weights: Tensor, tokens: int, size: Sequence[int]) -> Gate:
    """The same weights (samples, LoRAs) for every word and position; size: height and width."""
    samples, count = weights.shape
    return Gate(
        weights[:, None].expand(samples, tokens, count),
        weights[:, :, None, None].expand(samples, count, *size),
    )


def word_gate(base: Base, prompts: Sequence[str], phrases: Sequence[str]) -> Tensor:
    """The words' weights (prompts, tokens, LoRAs) as the module's first lines define them."""
    marks = marked(base, prompts, phrases)
    words = torch.where(marks.any(dim=2, keepdim=True), marks, 1.0)
    words[:, :, torch.tensor([is_style(phrase) for phrase in phrases])] = 1
    words[:, 0] = 0
    return words


def concept_tokens(base: Base, prompts: Sequence[str], phrases: Sequence[str]) -> Tensor:
    """1 at the words of each thing, whose region they call: (prompts, tokens, LoRAs)."""
    things = torch.tensor([not is_style(phrase) for phrase in phrases])
    return marked(base, prompts, phrases) * things


def silenced(gate: Gate, named: Tensor) -> Gate:
    """The gate in which LoRAs that a prompt does not name, (prompts, LoRAs), do nothing at all."""
    return Gate(gate.words * named[:, None, :], gate.regions * named[:, :, None, None])


@contextmanager
def gated(base: Base, changes: Sequence[Mapping[str, Change]], gate: Gate) -> Iterator[None]:
    """The model with each LoRA's changes where the gate lets them; untouched afterwards."""
    moved = [
        {name: each.to(base.device, base.dtype) for name, each in own.items()} for own in changes
    ]

    def hook(name: str) -> Callable:
        return lambda module, inputs, output: add_gated(
            name, module, inputs[0], output, gate, [own.get(name) for own in moved]
        )

    with ExitStack() as undo:
        for name in dict.fromkeys(name for own in changes for name in own):
            undo.callback(base.modules[name].register_forward_hook(hook(name)).remove)
        yield


def add_gated(
    name: str,
    module: Module,
    x: Tensor,
    output: Tensor,
    gate: Gate,
    changes: Sequence[Change | None],
) -> Tensor:
    """Add every LoRA's change to the module's output, in place, row by row at its weight."""
    positions = output.shape[2:].numel() if output.ndim == 4 else output.shape[1:-1].numel()
    weights = gate.rows(name, positions).to(x)
    for i, each in enumerate(changes):
        own = weights[..., i].any(dim=1).nonzero().flatten()
        if each is not None and len(own):
            addition = change(module, x[own], each)
            output.index_add_(0, own, spread(weights[own, :, i], output) * addition)
    return output


class RegionFinder(AttentionWatch):
    """Watches cross-attention and keeps the gate's regions up to date, step by step."""

    def __init__(self, base: Base, gate: Gate, concepts: Tensor) -> None:
        """``concepts`` (samples, tokens, LoRAs) marks each concept's words in the last samples."""
        super().__init__(base, concepts, gate.regions.shape[2:])
        self.gate = gate
        self.unparted = gate.regions[-len(concepts) :].to(base.device)

    def settle(self) -> None:
        """After a step: give every position to the concept that it looks at most."""
        named = self.concepts.any(dim=1)[:, :, None, None]  # (samples, LoRAs, 1, 1)
        owner = self.evidence.masked_fill(~named, float("-inf")).argmax(dim=1)
        regions = F.one_hot(owner, named.shape[1]).permute(0, 3, 1, 2).float()
        regions = torch.where(named, regions, self.unparted)
        self.gate.regions = regions.repeat(len(self.gate.regions) // len(regions), 1, 1, 1)
