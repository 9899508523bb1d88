"""What a composition draws: pictures that go through the model together, and their LoRAs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from merging.adapter import Adapter, VectorDelta
from merging.diffusion.base import Base
from merging.diffusion.prompts.encoder import encode, phrase_places, piece_count
from merging.errors import MergeError
from merging.io.regions import Region
from merging.linalg.delta import Delta, scaled_delta, sum_deltas, sum_vector_deltas
from merging.text.phrases import repeated
from merging.text.syntax import plain_text

Weighted = tuple[Adapter, float]  # with its strength


@dataclass(frozen=True)
class Scene:
    """One batch of pictures with the same settings."""

    base: Base
    pairs: Sequence[tuple[str, int]]  # (prompt, seed)
    negative: str
    adapters: Sequence[Weighted]
    latent: tuple[int, int]  # height, width
    steps: int
    guidance: float
    regions: Sequence[Region] = ()

    @property
    def prompts(self) -> list[str]:
        """The prompt of every picture."""
        return [prompt for prompt, _ in self.pairs]

    @property
    def negatives(self) -> list[str]:
        """As many copies of the negative prompt."""
        return [self.negative] * len(self.pairs)

    @property
    def streams(self) -> int:
        """2 with guidance, where the model's batch is [unconditional, conditional]; else 1."""
        return 2 if self.guidance > 1 else 1

    @cached_property
    def triggers(self) -> list[str]:
        """Every LoRA's trigger phrase, plain; MergeError if one has none, or if two share one."""
        phrases = [plain_text(adapter.trigger) for adapter, _ in self.adapters]
        if not phrases or not all(phrases):
            raise MergeError(
                "This composition needs a trigger phrase for every LoRA; type the missing ones."
            )
        pairs = zip(phrases, self.adapters, strict=True)
        if shared := repeated([phrase for phrase, (_, strength) in pairs if strength]):
            raise MergeError(
                f"This composition tells LoRAs apart by their triggers, and two have “{shared[0]}” "
                "(capitals are read as small letters): type another, or let them act as a sum."
            )
        return phrases

    @cached_property
    def pieces(self) -> int:
        """In how many pieces the longest prompt is read; MergeError if they are too many."""
        return max(piece_count(self.base, text) for text in (*self.prompts, self.negative))

    def phrase_masks(self, phrases: Sequence[str]) -> Tensor:
        """1 where a prompt's token belongs to a phrase: (pictures, pieces · tokens, phrases)."""
        length = self.base.pipeline.tokenizer.model_max_length
        marks = torch.zeros(len(self.prompts), self.pieces * length, len(phrases))
        for marked, prompt in zip(marks, self.prompts, strict=True):
            for i, places in enumerate(phrase_places(self.base, prompt, phrases)):
                marked[places, i] = 1
        return marks

    def generators(self) -> list[torch.Generator]:
        """A new source of noise for every picture, by its seed; on the CPU."""
        return [torch.Generator().manual_seed(seed) for _, seed in self.pairs]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Output of the text encoder as it is now: (texts, pieces · tokens, width)."""
        return encode(self.base, texts, self.pieces)

    def states(self) -> Tensor:
        """Text states of the model's batch, with the text encoder as it is now."""
        cond, uncond = self.encode(self.prompts), self.encode(self.negatives)
        return torch.cat([uncond, cond][-self.streams :])

    def predict(self, latents: Tensor, time: Tensor, states: Tensor) -> Tensor:
        """Predicted noise of the model's batch, of shape (streams · pictures, channels, …)."""
        batch = torch.cat([latents] * self.streams)
        return self.base.pipeline.unet(
            batch, time, encoder_hidden_states=states, return_dict=False
        )[0]

    def guide(self, noise: Tensor) -> Tensor:
        """Classifier-free guidance: one prediction per picture from those of the batch."""
        if self.streams == 1:
            return noise
        uncond, cond = noise.chunk(2)
        return uncond + self.guidance * (cond - uncond)


def summed_deltas(base: Base, adapters: Sequence[Weighted]) -> dict[str, Delta]:
    """Layer → Σ strength · Δ. MergeError where the base lacks a layer."""
    merged: dict[str, Delta] = {}
    for adapter, strength in adapters:
        for name, layer in adapter.layers.items():
            if name not in base.layers:
                raise MergeError(
                    f"{adapter.name}: layer {name} does not exist in the base {base.name}; "
                    "choose the base that it was trained for."
                )
            delta = scaled_delta(layer, strength)
            merged[name] = sum_deltas([merged[name], delta]) if name in merged else delta
    return merged


def summed_shifts(base: Base, adapters: Sequence[Weighted]) -> dict[str, VectorDelta]:
    """Module → Σ strength · change of its vectors. MergeError where the base lacks one."""
    for adapter, _ in adapters:
        base.check_shifts(adapter.shifts)
    return sum_vector_deltas(
        {module: shift.scaled(strength) for module, shift in adapter.shifts.items()}
        for adapter, strength in adapters
    )
