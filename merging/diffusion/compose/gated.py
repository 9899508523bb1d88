"""Each LoRA on its trigger phrase and in its region, by the gate (merging/diffusion/gate.py)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from merging.diffusion.attention_maps import phrase_masks
from merging.diffusion.compose.composer import Composer, Moment
from merging.diffusion.compose.scene import Scene, summed_deltas, summed_shifts
from merging.diffusion.gate import (
    RegionFinder,
    concept_tokens,
    constant_gate,
    gated,
    silence_unnamed,
    token_gate,
)


class TokenGated(Composer):
    """One pass, in which every LoRA has a weight at every token: `token_weights` defines it."""

    def __init__(self, scene: Scene) -> None:
        """Raises MergeError if a LoRA has no trigger phrase."""
        super().__init__(scene)
        base, phrases = scene.base, scene.triggers
        self.deltas = [summed_deltas(base, [pair]) for pair in scene.adapters]
        self.shifts = [summed_shifts(base, [pair]) for pair in scene.adapters]
        self.words, self.blank = map(self.token_weights, (scene.prompts, scene.negatives))
        ones = torch.ones(scene.streams * len(scene.pairs), len(phrases))
        self.gate = constant_gate(ones, base.pipeline.tokenizer.model_max_length, scene.latent)

    @abstractmethod
    def token_weights(self, texts: Sequence[str]) -> Tensor:
        """Weights (texts, tokens, LoRAs)."""

    @contextmanager
    def acting(self) -> Iterator[None]:
        """The gate is in the model from the text encoder on."""
        base, gate = self.scene.base, self.gate
        with gated(base, self.deltas, gate), gated(base, self.shifts, gate):
            self.states = self._states()
            yield

    def _states(self) -> Tensor:
        """Text states of the model's batch; the gate is left with the tokens of that batch."""
        scene, gate = self.scene, self.gate
        gate.tokens = self.words
        cond = scene.encode(scene.prompts)
        gate.tokens = self.blank
        uncond = scene.encode(scene.negatives)
        gate.tokens = torch.cat([self.blank, self.words][-scene.streams :])
        return torch.cat([uncond, cond][-scene.streams :])

    def noise(self, latents: Tensor, moment: Moment) -> Tensor:
        """One prediction."""
        return self.scene.guide(self.scene.predict(latents, moment.time, self.states))


class Gated(TokenGated):
    """Regions are found from the attention and updated after every step."""

    def __init__(self, scene: Scene) -> None:
        """Raises MergeError if a LoRA has no trigger phrase."""
        self.named = phrase_masks(scene.base, scene.prompts, scene.triggers).amax(dim=1)
        super().__init__(scene)
        self.gate = silence_unnamed(self.gate, self.named.repeat(scene.streams, 1))
        concepts = concept_tokens(scene.base, scene.prompts, scene.triggers)
        self.finder = RegionFinder(scene.base, self.gate, concepts)

    def token_weights(self, texts: Sequence[str]) -> Tensor:
        """Those of the gate; 0 for a LoRA that the picture's prompt does not name."""
        return token_gate(self.scene.base, texts, self.scene.triggers) * self.named[:, None]

    @contextmanager
    def acting(self) -> Iterator[None]:
        """The attention is watched as long as the gate is in the model."""
        with super().acting(), self.finder.recording():
            yield

    def after_step(self) -> None:
        """Give every position to the concept with the most attention so far."""
        self.finder.update_regions()
