"""W-Composite (arXiv:2606.03792): ε = Σᵢ wᵢ εᵢ, wᵢ how much trigger i's words change the prompt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from merging.diffusion.compose.composer import Moment, Variants
from merging.diffusion.compose.word_weights import word_weights


class WeightedComposite(Variants):
    """One pass per LoRA."""

    @contextmanager
    def acting(self) -> Iterator[None]:
        """The weights are those of the prompts, the same in all steps."""
        with super().acting():
            self.weights = word_weights(self.scene, self.loras)  # (pictures, LoRAs)
            yield

    def noise(self, latents: Tensor, moment: Moment) -> Tensor:
        """The weighted mean of their predictions."""
        noise = torch.stack(self.predictions(latents, moment), dim=1)
        return (self.weights[:, :, None, None, None].to(noise) * noise).sum(dim=1)
