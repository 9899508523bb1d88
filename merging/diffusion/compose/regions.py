"""Each concept in regions that the user draws: ε = Σᵢ Mᵢ εᵢ / Σᵢ Mᵢ, position by position.

εᵢ is the prediction with the LoRA of trigger i and a prompt that names no other region's trigger;
where no region is, that of the prompt without all of them. Predictions are mixed as MultiDiffusion
does (arXiv:2302.08113), prompts are per region as in Mix-of-Show (arXiv:2305.18292). LoRAs that
have no region, styles for instance, act in every pass. A merge, whose file has several triggers,
can be drawn in regions as well. Regions may overlap, where both count the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from merging.diffusion.compose.composer import Composer, Moment, Variant
from merging.diffusion.compose.scene import Scene, Weighted
from merging.diffusion.compose.word_weights import without_phrase
from merging.errors import MergeError
from merging.io.regions import Region, cover
from merging.text.syntax import plain_text


class Regions(Composer):
    """One pass per trigger that has a region, and one of what is around them."""

    def __init__(self, scene: Scene) -> None:
        """Raises MergeError for a region whose trigger no LoRA has, or if there is no region."""
        super().__init__(scene)
        self.masks = region_masks(scene)

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Every region has its own text states."""
        shared = [one for one in self.scene.adapters if not _regional(one, self.masks)]
        weights = dict(self.masks)
        around = 1 - torch.stack(list(weights.values())).sum(dim=0).clamp_max(1)
        self.parts = [(self._variant(phrase, shared), mask) for phrase, mask in weights.items()]
        if around.any():
            self.parts.append((self._variant("", shared), around))
        yield

    def _variant(self, phrase: str, shared: Sequence[Weighted]) -> Variant:
        """The model of one region, or for "" of what is around all of them."""
        others = [name for name in self.masks if name != phrase]
        known = [name for one, _ in self.scene.adapters for name in one.triggers]
        cut = [(_without(prompt, others, known), seed) for prompt, seed in self.scene.pairs]
        chosen = [one for one in self.scene.adapters if phrase and phrase in one[0].triggers]
        return Variant(replace(self.scene, pairs=cut), [*chosen, *shared])

    def noise(self, latents: Tensor, moment: Moment) -> Tensor:
        """The regions' predictions, each in its place."""
        total, weights = torch.zeros_like(latents), torch.zeros_like(latents)
        for variant, mask in self.parts:
            weights += mask.to(latents)
            total += mask.to(latents) * variant.noise(latents, moment.time)
        return total / weights

    def maps(self, phrases: Sequence[str]) -> Tensor | None:
        """The regions, since every pass has words of its own."""
        nowhere = torch.zeros(self.scene.latent)
        masks = torch.stack([self.masks.get(phrase, nowhere) for phrase in phrases])
        masks = masks / masks.mean(dim=(1, 2), keepdim=True).clamp_min(1e-12)
        return masks.expand(len(self.scene.pairs), *masks.shape)


def region_masks(scene: Scene) -> dict[str, Tensor]:
    """Trigger → how much of each position its regions cover: (height, width) of the latent.

    MergeError for a region whose trigger no LoRA has, or if there is none at all.
    """
    triggers = [name for adapter, _ in scene.adapters for name in adapter.triggers]
    if not scene.regions:
        raise MergeError(
            "This composition needs regions, one for each trigger: TRIGGER=x0,y0,x1,y1 in shares "
            "of the picture from 0 to 1, after --region or under “Regions” on the page, where they "
            "can be painted, too."
        )
    masks: dict[str, Tensor] = {}
    for region in scene.regions:
        phrase = plain_text(region.phrase)
        if phrase not in triggers:
            raise MergeError(
                f"No LoRA has the trigger “{region.phrase}” of a region; there are "
                f"{', '.join(triggers) or 'none'}."
            )
        mask = region_mask(region, scene.latent)
        masks[phrase] = torch.maximum(masks.get(phrase, mask), mask)
    return masks


def box_mask(box: Sequence[float], size: tuple[int, int]) -> Tensor:
    """How much of each position a box covers: (height, width)."""
    left, top, right, bottom = box
    rows, columns = (
        torch.tensor(cover(start, end, count))
        for start, end, count in ((top, bottom, size[0]), (left, right, size[1]))
    )
    return rows[:, None] * columns


def region_mask(region: Region, size: tuple[int, int]) -> Tensor:
    """How much of each position a region covers: (height, width)."""
    if region.mask is None:
        return box_mask(region.box, size)
    cells = torch.tensor(region.mask.cells, dtype=torch.float32)
    rows, columns = (
        torch.tensor([cover(i / parts, (i + 1) / parts, count) for i in range(parts)])
        for parts, count in zip(cells.shape, size, strict=True)
    )
    return (rows.T @ cells @ columns).clamp(max=1)


def _regional(one: Weighted, masks: dict[str, Tensor]) -> bool:
    """Whether a LoRA's trigger has a region; a merge of several is everywhere, with its words."""
    return any(name in masks for name in one[0].triggers)


def _without(prompt: str, phrases: Sequence[str], known: Sequence[str]) -> str:
    for phrase in phrases:
        prompt = without_phrase(prompt, phrase, known)
    return prompt
