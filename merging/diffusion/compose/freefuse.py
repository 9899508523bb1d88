"""FreeFuse (arXiv:2510.23515): masks found in a first try, then each LoRA in its own mask.

First try: a third of the steps with every LoRA everywhere. Then concept i's score at a position is
N · aᵢ − Σⱼ≠ᵢ aⱼ, of the attention aᵢ to its trigger; its seeds are the best tenth of the positions;
a position belongs to the concept whose seeds' self-attention features are most like its own, with a
bias for each concept that evens out the areas. Second try, from the same noise: LoRA i acts in its
mask and on its trigger's tokens, and within the mask cross-attention has +1 on these tokens and −1
on those of other concepts. Styles act everywhere.

The paper is about larger models; here the features are those of the smallest layers that have 100
positions or more: 16 × 16 in SD 1.5. Features are compared by their cosines. Of the paper's rules
for areas, the bias is here; its terms for compact and connected areas are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from merging.diffusion.attention_bias import biased
from merging.diffusion.attention_maps import AttentionRecorder
from merging.diffusion.compose.gated import TokenGated
from merging.diffusion.compose.scene import Scene
from merging.diffusion.gate import concept_tokens, token_gate

FIRST_TRY = 1 / 3  # of the steps
SEEDS = 0.1  # of the positions
FEWEST = 100  # positions of the layers that give features
ROUNDS, RATE, DECAY = 15, 0.01, 0.95  # of the bias: the rate is a share of the values' range


class FreeFuse(TokenGated):
    """One pass, after a third of the steps were done once before."""

    def __init__(self, scene: Scene) -> None:
        """Raises MergeError if a LoRA has no trigger phrase."""
        super().__init__(scene)
        self.marks = concept_tokens(scene.base, scene.prompts, scene.triggers)
        self.masks: Tensor | None = None  # (pictures, LoRAs, height, width), after the first try

    def token_weights(self, texts: Sequence[str]) -> Tensor:
        """As the gate has them: a trigger's tokens are its LoRA's alone."""
        return token_gate(self.scene.base, texts, self.scene.triggers)

    @contextmanager
    def acting(self) -> Iterator[None]:
        """The bias is 0 until the masks are known."""
        with super().acting(), biased(self.scene.base, "attn2", self._bias):
            yield

    def begin(self, latents: Tensor) -> Tensor:
        """Find the masks, and start from the same latents again."""
        scheduler = deepcopy(self.scene.base.pipeline.scheduler)
        options = self.scene.base.pipeline.prepare_extra_step_kwargs(self.scene.generators(), 0.0)
        count = max(1, round(FIRST_TRY * self.scene.steps))
        x = latents
        for time in scheduler.timesteps[:count]:
            watch = AttentionRecorder(self.scene.base, self.marks, self.scene.latent)
            features: list[Tensor] = []
            with watch.recording(), self._keeping(features):
                scaled = scheduler.scale_model_input(x, time)
                noise = self.scene.guide(self.scene.predict(scaled, time, self.states))
            x = scheduler.step(noise, time, x, **options, return_dict=False)[0]
        self._part(watch.evidence, features)
        return latents

    @contextmanager
    def _keeping(self, features: list[Tensor]) -> Iterator[None]:
        """Put the outputs of self-attention there, of those layers that are fine enough."""

        def keep(_block: nn.Module, _inputs: tuple, output: Tensor) -> None:
            if output.shape[1] >= FEWEST:
                features.append(output[-len(self.scene.pairs) :])

        with ExitStack() as undo:
            for name, block in self.scene.base.pipeline.unet.named_modules():
                if name.endswith(".attn1"):
                    undo.callback(block.register_forward_hook(keep).remove)
            yield

    def _part(self, attention: Tensor, features: Sequence[Tensor]) -> None:
        """Set the masks from the last step's attention and features."""
        fewest = min((one.shape[1] for one in features), default=0)
        coarse = [one for one in features if one.shape[1] == fewest]
        height, width = self.scene.latent
        shrink = (height * width / max(fewest, 1)) ** 0.5 if coarse else 1
        size = (round(height / shrink), round(width / shrink))
        named = self.marks.any(dim=1).to(attention.device)  # (pictures, LoRAs)
        maps = F.interpolate(attention, size=size, mode="area").flatten(2)
        likeness = seed_likeness(maps, named, coarse)
        owner = balanced_owner(likeness, named).unflatten(1, size)
        masks = F.one_hot(owner, named.shape[1]).permute(0, 3, 1, 2).float()
        masks = F.interpolate(masks, size=(height, width), mode="nearest")
        self.masks = torch.where(named[:, :, None, None], masks, 1.0)
        self.gate.regions = self.masks.repeat(self.scene.streams, 1, 1, 1)

    def _bias(self, positions: int) -> Tensor:
        """(samples, positions, tokens): +1 on tokens of the position's concept, −1 on others."""
        pictures, tokens, _ = self.marks.shape
        if self.masks is None:
            return torch.zeros(self.scene.streams * pictures, positions, tokens)
        height, width = self.scene.latent
        shrink = (height * width / positions) ** 0.5
        size = (round(height / shrink), round(width / shrink))
        marks = self.marks.to(self.masks)
        masks = F.interpolate(self.masks, size=size, mode="area").flatten(2).transpose(1, 2)
        concepts = masks * marks.any(dim=1)[:, None]  # styles have no place of their own
        bias = (2 * concepts - concepts.sum(dim=2, keepdim=True)) @ marks.transpose(1, 2)
        return torch.cat([torch.zeros_like(bias), bias][-self.scene.streams :])


def seed_likeness(maps: Tensor, named: Tensor, features: Sequence[Tensor]) -> Tensor:
    """How alike each position is to each concept's seeds: (pictures, concepts, positions).

    ``maps`` has the attention to each concept, in that shape; ``named`` (pictures, concepts) says
    which the prompt has; ``features`` are (pictures, positions, channels). Without any, the scores.
    """
    maps = maps * named[:, :, None]
    scores = (named.sum(dim=1)[:, None, None] + 1) * maps - maps.sum(dim=1, keepdim=True)
    if not features:
        return scores
    count = max(1, round(SEEDS * maps.shape[2]))
    seeds = torch.zeros_like(scores).scatter_(2, scores.topk(count, dim=2).indices, 1 / count)
    unit = [F.normalize(one.float(), dim=2) for one in features]
    return torch.stack([seeds @ one @ one.transpose(1, 2) for one in unit]).mean(dim=0)


def balanced_owner(likeness: Tensor, named: Tensor) -> Tensor:
    """The concept of every position, with areas evened out: (pictures, positions)."""
    hidden = likeness.masked_fill(~named[:, :, None], float("-inf"))
    span = likeness.amax(dim=(1, 2)) - likeness.amin(dim=(1, 2))
    rate, bias = RATE * span[:, None], torch.zeros_like(named, dtype=likeness.dtype)
    fair = 1 / named.sum(dim=1, keepdim=True).clamp_min(1)
    for _ in range(ROUNDS):
        owner = (hidden + bias[:, :, None]).argmax(dim=1)
        share = F.one_hot(owner, named.shape[1]).to(bias).mean(dim=1)
        bias = bias + rate * (fair - share) * len(bias[0])
        rate = rate * DECAY
    return (hidden + bias[:, :, None]).argmax(dim=1)
