"""LoRAtorio (arXiv:2508.11624): every patch follows the LoRAs that change it most.

In each patch of the predicted noise, sᵢ = cos(εᵢ, ε₀) of LoRA i's prediction and the base's. A LoRA
whose subject is not there predicts what the base does, so the weights are softmaxᵢ(−sᵢ / T) patch
by patch, and ε = ε̂₀ + g (Σᵢ wᵢ εᵢ − ε̂₀), where ε̂₀ is the base's prediction for the negative prompt.
Without guidance, ε is the weighted sum alone. Patches of 2 × 2 latent pixels, and T, are ours:
predictions differ by so little from the base's that a T near the paper's 1 would give the plain
mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from merging.diffusion.compose.composer import Moment, Variant, Variants

PATCH = 2  # latent pixels a side
TEMPERATURE = 0.05


class Loratorio(Variants):
    """One pass per LoRA, and one of the base."""

    @contextmanager
    def acting(self) -> Iterator[None]:
        """The base has its own text states."""
        with super().acting():
            self.plain = Variant(self.scene, [])
            yield

    def noise(self, latents: Tensor, moment: Moment) -> Tensor:
        """The LoRAs' predictions, weighed patch by patch."""
        count = len(latents)
        plain = self.plain.predict(latents, moment.time)
        cond = [lora.predict(latents, moment.time)[-count:] for lora in self.loras]
        weights = patch_weights(cond, plain[-count:])
        mixed = (weights * torch.stack(cond, dim=1)).sum(dim=1)
        return self.scene.guide(torch.cat([*plain[:-count].split(count), mixed]))


def patch_weights(noises: Sequence[Tensor], plain: Tensor) -> Tensor:
    """Weights (pictures, LoRAs, 1, height, width) of predictions (pictures, channels, …)."""
    height, width = plain.shape[2:]
    patches = [_patches(noise) for noise in (*noises, plain)]
    alike = torch.stack([F.cosine_similarity(one, patches[-1]) for one in patches[:-1]], dim=1)
    weights = (-alike / TEMPERATURE).softmax(dim=1)
    weights = weights.repeat_interleave(PATCH, dim=2).repeat_interleave(PATCH, dim=3)
    return weights[:, :, None, :height, :width].to(plain)


def _patches(noise: Tensor) -> Tensor:
    """The values of every patch: (pictures, channels · PATCH², rows, columns)."""
    height, width = noise.shape[2:]
    padded = F.pad(noise.float(), (0, -width % PATCH, 0, -height % PATCH))
    return F.pixel_unshuffle(padded, PATCH)
