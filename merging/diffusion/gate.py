"""A gate lets every LoRA act only on the tokens of its trigger phrase and on its region.

So the LoRAs do not disturb each other. The gate is the teacher "composed" of a merge, and a way to
draw with several LoRAs without merging them (``--compose gated``).

Tokens: those of phrase i get Δ_i alone; tokens of no phrase (articles, end, padding) get the sum,
since concept LoRAs act through them too; the first token gets no change. Regions: a position
belongs to the concept whose phrase gets the most cross-attention there, summed over layers and over
the steps so far (every concept's map is divided by its mean). A style (a phrase that ends in
"style") acts on all tokens and everywhere. So would a LoRA that the prompt does not name;
`silence_unnamed` switches it off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from merging.calibration.prompts import is_style
from merging.diffusion.attention_maps import AttentionRecorder, phrase_masks
from merging.diffusion.base import Base
from merging.diffusion.layer_inputs import reads_text
from merging.diffusion.layer_ops import Change, Module, broadcast_weights, output_change


@dataclass
class Gate:
    """Weights of every LoRA for one batch, per token and per position."""

    tokens: Tensor  # (samples, tokens, LoRAs)
    regions: Tensor  # (samples, LoRAs, height, width), at the size of the latent

    def rows(self, layer: str, count: int) -> Tensor:
        """The weights of the layer's ``count`` input rows: (samples, count, LoRAs)."""
        if reads_text(layer):
            return self.tokens
        if count == 1:  # the time embedding has no position
            return self.regions.amax(dim=(2, 3))[:, None]
        height, width = self.regions.shape[2:]
        shrink = (height * width / count) ** 0.5
        size = (round(height / shrink), round(width / shrink))
        return F.interpolate(self.regions, size=size, mode="area").flatten(2).transpose(1, 2)


def constant_gate(weights: Tensor, tokens: int, size: Sequence[int]) -> Gate:
    """The same weights (samples, LoRAs) for all tokens and positions; size: height and width."""
    samples, count = weights.shape
    return Gate(
        weights[:, None].expand(samples, tokens, count),
        weights[:, :, None, None].expand(samples, count, *size),
    )


def token_gate(base: Base, prompts: Sequence[str], phrases: Sequence[str]) -> Tensor:
    """Weights of the tokens (prompts, tokens, LoRAs), as defined at the top of this file."""
    marks = phrase_masks(base, prompts, phrases)
    words = torch.where(marks.any(dim=2, keepdim=True), marks, 1.0)
    words[:, :, torch.tensor([is_style(phrase) for phrase in phrases])] = 1
    words[:, 0] = 0
    return words


def concept_tokens(base: Base, prompts: Sequence[str], phrases: Sequence[str]) -> Tensor:
    """1 at the tokens of things, which have regions; 0 for styles: (prompts, tokens, LoRAs)."""
    things = torch.tensor([not is_style(phrase) for phrase in phrases])
    return phrase_masks(base, prompts, phrases) * things


def silence_unnamed(gate: Gate, named: Tensor) -> Gate:
    """The gate with LoRAs switched off where ``named`` (prompts, LoRAs) is 0."""
    return Gate(gate.tokens * named[:, None, :], gate.regions * named[:, :, None, None])


@contextmanager
def gated(base: Base, changes: Sequence[Mapping[str, Change]], gate: Gate) -> Iterator[None]:
    """The model with every LoRA's changes under the gate; untouched afterwards."""
    loras = [
        {name: addition.to(base.device, base.dtype) for name, addition in lora.items()}
        for lora in changes
    ]

    def hook(name: str) -> Callable:
        return lambda module, inputs, output: add_gated(
            name, module, inputs[0], output, gate, [lora.get(name) for lora in loras]
        )

    with ExitStack() as undo:
        for name in dict.fromkeys(name for lora in changes for name in lora):
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
    """Add every LoRA's change to the module's output, in place, times its weight in every row."""
    positions = output.shape[2:].numel() if output.ndim == 4 else output.shape[1:-1].numel()
    weights = gate.rows(name, positions).to(x)
    for i, lora in enumerate(changes):
        samples = weights[..., i].any(dim=1).nonzero().flatten()
        if lora is not None and len(samples):
            addition = output_change(module, x[samples], lora)
            output.index_add_(
                0, samples, broadcast_weights(weights[samples, :, i], output) * addition
            )
    return output


class RegionFinder(AttentionRecorder):
    """Records cross-attention and updates the gate's regions after every step."""

    def __init__(self, base: Base, gate: Gate, concepts: Tensor) -> None:
        """``concepts`` (samples, tokens, LoRAs) is 1 at a concept's tokens in the last samples."""
        super().__init__(base, concepts, gate.regions.shape[2:])
        self.gate = gate
        self.shared_regions = gate.regions[-len(concepts) :].to(base.device)

    def update_regions(self) -> None:
        """After a step: give every position to the concept with the most attention there."""
        named = self.concepts.any(dim=1)[:, :, None, None]  # (samples, LoRAs, 1, 1)
        owner = self.evidence.masked_fill(~named, float("-inf")).argmax(dim=1)
        regions = F.one_hot(owner, named.shape[1]).permute(0, 3, 1, 2).float()
        regions = torch.where(named, regions, self.shared_regions)
        self.gate.regions = regions.repeat(len(self.gate.regions) // len(regions), 1, 1, 1)
