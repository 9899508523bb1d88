"""LoRA Composite (arXiv:2402.16843): ε = mean over LoRAs of εᵢ, each with LoRA i alone, guided.

The paper averages the guided scores with and without the prompt apart, which is the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from merging.diffusion.compose.composer import Moment, Variants


class Composite(Variants):
    """One pass per LoRA."""

    def noise(self, latents: Tensor, moment: Moment) -> Tensor:
        """The mean of their predictions."""
        return torch.stack(self.predictions(latents, moment)).mean(dim=0)
