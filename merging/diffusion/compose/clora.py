"""CLoRA (arXiv:2403.19776): contrastive attention, and each LoRA in its own mask.

Branches: each thing's LoRA alone, and none; styles are in all of them. In the first steps the
latents move down the gradient of the NT-Xent loss (temperature 0.5) over the branches' attention
maps: maps of one concept attract each other, maps of different concepts repel, so that no two claim
one place. Then ε = Σᵢ Mᵢ εᵢ / Σᵢ Mᵢ; Mᵢ is where LoRA i's own map of its concept is above 0.3 of
its range, and the branch without a LoRA has what nobody has.

The maps are of all cross-attention layers, at the size of the latents, since bases differ in their
layers. The loss couples the branches, but its gradient is the sum of one part per branch, so that
one pass at a time is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from merging.calibration.prompts import is_style
from merging.diffusion.attention_maps import AttentionRecorder, phrase_masks
from merging.diffusion.compose.composer import Composer, Moment, Variant
from merging.diffusion.compose.scene import Scene
from merging.text.syntax import plain_text

LONGEST = 25  # steps in which the latents are moved, at most; half of all steps
RATE = 0.02
TEMPERATURE = 0.5
MASK = 0.3  # of a map's range


class Clora(Composer):
    """A pass for every branch, and two more with gradients in the first steps."""

    def __init__(self, scene: Scene) -> None:
        """Raises MergeError if a LoRA has no trigger phrase."""
        super().__init__(scene)
        things = [phrase for phrase in scene.triggers if not is_style(phrase)]
        self.marks = phrase_masks(scene.base, scene.prompts, things)  # (pictures, tokens, things)

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Every branch has its own text states; the one without a thing is the last."""
        pairs = self.scene.adapters
        styles = [pair for pair in pairs if is_style(plain_text(pair[0].trigger))]
        things = [pair for pair in pairs if pair not in styles]
        self.branches = [Variant(self.scene, [pair, *styles]) for pair in things]
        self.branches.append(Variant(self.scene, styles))
        yield

    def move(self, latents: Tensor, moment: Moment) -> Tensor:
        """The latents after one step down the gradient."""
        if moment.step >= min(LONGEST, self.scene.steps // 2):
            return latents
        maps = torch.stack([self._maps(one, latents, moment.time) for one in self.branches])
        slopes = loss_slopes(maps)
        gradient = torch.zeros_like(latents)
        for branch, slope in zip(self.branches, slopes, strict=True):
            with torch.enable_grad():
                x = latents.detach().requires_grad_()
                drawn = self._maps(branch, x, moment.time)
                gradient += torch.autograd.grad(drawn, x, slope)[0]
        return latents - RATE * gradient

    def _maps(self, branch: Variant, latents: Tensor, time: Tensor) -> Tensor:
        """A branch's maps of all concepts: (pictures, concepts, height, width)."""
        scheduler = self.scene.base.pipeline.scheduler
        watch = AttentionRecorder(self.scene.base, self.marks, self.scene.latent, graph=True)
        with watch.recording():
            branch.predict_prompts(scheduler.scale_model_input(latents, time), time)
        return watch.evidence

    def noise(self, latents: Tensor, moment: Moment) -> Tensor:
        """The branches' predictions, each in its mask."""
        noises, maps = [], []
        for index, branch in enumerate(self.branches):
            watch = AttentionRecorder(self.scene.base, self.marks, self.scene.latent)
            with watch.recording():
                noises.append(branch.noise(latents, moment.time))
            maps.append(watch.evidence[:, index : index + 1])  # empty for the last branch
        masks = concept_masks(torch.cat(maps, dim=1)).to(latents)
        shares = masks / masks.sum(dim=1, keepdim=True)
        return (shares[:, :, None] * torch.stack(noises, dim=1)).sum(dim=1)


def loss_slopes(maps: Tensor) -> Tensor:
    """∂ loss / ∂ maps, of the same shape: (branches, pictures, concepts, height, width)."""
    with torch.enable_grad():
        leaf = maps.detach().float().requires_grad_()
        loss = torch.stack([contrastive_loss(leaf[:, i]) for i in range(leaf.shape[1])]).sum()
        return torch.autograd.grad(loss, leaf)[0].to(maps)


def contrastive_loss(maps: Tensor) -> Tensor:
    """NT-Xent of one picture's maps (branches, concepts, height, width); 0 for one concept.

    The mean over pairs of maps of one concept of −log(e^(s/T) / (e^(s/T) + Σ e^(s⁻/T))), s⁻ the
    similarities of the pair's first map to maps of other concepts.
    """
    branches, concepts = maps.shape[:2]
    flat = F.normalize(in_range(maps).flatten(2).flatten(0, 1), dim=1)
    likeness = flat @ flat.T / TEMPERATURE
    owner = torch.arange(concepts, device=maps.device).repeat(branches)
    same = owner[:, None] == owner
    against = likeness.masked_fill(same, float("-inf")).logsumexp(dim=1, keepdim=True)
    losses = torch.logaddexp(likeness, against) - likeness
    return losses[same & ~torch.eye(len(owner), dtype=torch.bool, device=maps.device)].mean()


def in_range(maps: Tensor) -> Tensor:
    """Maps (…, height, width) from 0 to 1; 0 where a map is even."""
    low, high = maps.amin(dim=(-2, -1), keepdim=True), maps.amax(dim=(-2, -1), keepdim=True)
    return (maps - low) / (high - low).clamp_min(1e-6)


def concept_masks(maps: Tensor) -> Tensor:
    """Masks (pictures, concepts + 1, height, width) of 0 and 1; the last is what no other has."""
    masks = in_range(maps) > MASK
    return torch.cat([masks, ~masks.any(dim=1, keepdim=True)], dim=1)
